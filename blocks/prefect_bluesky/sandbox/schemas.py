"""The schemas of the sandbox: of records, request bodies and query parameters."""

from .lexicon import any_object, array, blob, boolean, fields, integer, nullable, string, typed, union

_STRONG_REF = typed("com.atproto.repo.strongRef", {"uri": string("at-uri"), "cid": string("cid")})
_ASPECT_RATIO = typed("app.bsky.embed.defs#aspectRatio", {"width": integer(1), "height": integer(1)})
_IMAGE = blob("image/*", 2_000_000)
_IMAGES = fields(
    {
        "images": array(
            typed("app.bsky.embed.images#image", {"image": _IMAGE, "alt": string(), "aspectRatio?": _ASPECT_RATIO}), 4
        )
    }
)
_GALLERY = fields(
    {
        "items": array(
            union(
                {
                    "app.bsky.embed.gallery#image": fields(
                        {"image": _IMAGE, "alt": string(), "aspectRatio": _ASPECT_RATIO}
                    )
                }
            ),
            20,
        )
    }
)
_CAPTION = typed("app.bsky.embed.video#caption", {"lang": string("language"), "file": blob("text/vtt", 20_000)})
_VIDEO = fields(
    {
        "video": blob("video/mp4", 300_000_000),
        "captions?": array(_CAPTION, 20),
        "alt?": string(),
        "aspectRatio?": _ASPECT_RATIO,
        "presentation?": string(),
    }
)
_EXTERNAL = fields(
    {
        "external": typed(
            "app.bsky.embed.external#external",
            {
                "uri": string("uri"),
                "title": string(),
                "description": string(),
                "thumb?": blob("image/*", 1_000_000),
                "associatedRefs?": array(_STRONG_REF),
            },
        )
    }
)
_QUOTE = typed("app.bsky.embed.record", {"record": _STRONG_REF})
_MEDIA = {
    "app.bsky.embed.images": _IMAGES,
    "app.bsky.embed.video": _VIDEO,
    "app.bsky.embed.gallery": _GALLERY,
    "app.bsky.embed.external": _EXTERNAL,
}
_QUOTE_WITH_MEDIA = fields({"record": _QUOTE, "media": union(_MEDIA)})
_TAG = string(max_bytes=640, max_graphemes=64)
_BYTE_SLICE = {"byteStart": integer(0), "byteEnd": integer(0)}
_FACET = typed(
    "app.bsky.richtext.facet",
    {
        "index": typed("app.bsky.richtext.facet#byteSlice", _BYTE_SLICE),
        "features": array(
            union(
                {
                    "app.bsky.richtext.facet#mention": fields({"did": string("did")}),
                    "app.bsky.richtext.facet#link": fields({"uri": string("uri")}),
                    "app.bsky.richtext.facet#tag": fields({"tag": _TAG}),
                }
            )
        ),
    },
)
_TEXT_SLICE = typed("app.bsky.feed.post#textSlice", {"start": integer(0), "end": integer(0)})
_ENTITY = typed("app.bsky.feed.post#entity", {"index": _TEXT_SLICE, "type": string(), "value": string()})
_SELF_LABEL = typed("com.atproto.label.defs#selfLabel", {"val": string(max_bytes=128)})
_SELF_LABELS = fields({"values": array(_SELF_LABEL, 10)})
_NO_FIELDS = fields({})

RECORDS = {
    "app.bsky.feed.post": fields(
        {
            "text": string(max_bytes=3000, max_graphemes=300),
            "entities?": array(_ENTITY),
            "facets?": array(_FACET),
            "reply?": typed("app.bsky.feed.post#replyRef", {"root": _STRONG_REF, "parent": _STRONG_REF}),
            "embed?": union(
                {**_MEDIA, "app.bsky.embed.record": _QUOTE, "app.bsky.embed.recordWithMedia": _QUOTE_WITH_MEDIA}
            ),
            "langs?": array(string("language"), 3),
            "labels?": union({"com.atproto.label.defs#selfLabels": _SELF_LABELS}),
            "tags?": array(_TAG, 8),
            "createdAt": string("datetime"),
        }
    ),
    "app.bsky.feed.threadgate": fields(
        {
            "post": string("at-uri"),
            "allow?": array(
                union(
                    {
                        "app.bsky.feed.threadgate#mentionRule": _NO_FIELDS,
                        "app.bsky.feed.threadgate#followerRule": _NO_FIELDS,
                        "app.bsky.feed.threadgate#followingRule": _NO_FIELDS,
                        "app.bsky.feed.threadgate#listRule": fields({"list": string("at-uri")}),
                    }
                ),
                5,
            ),
            "createdAt": string("datetime"),
            "hiddenReplies?": array(string("at-uri"), 300),
        }
    ),
    "app.bsky.feed.postgate": fields(
        {
            "createdAt": string("datetime"),
            "post": string("at-uri"),
            "detachedEmbeddingUris?": array(string("at-uri"), 50),
            "embeddingRules?": array(union({"app.bsky.feed.postgate#disableRule": _NO_FIELDS}), 5),
        }
    ),
}
"""The schemas of records, checked unless `validate` is false. All these records have TIDs as keys."""

_REPO = {"repo": string("at-identifier")}
_COLLECTION = {"collection": string("nsid")}
_KEY = string("record-key", max_bytes=512)
_WRITES = union(
    {
        "com.atproto.repo.applyWrites#create": fields({**_COLLECTION, "rkey?": _KEY, "value": any_object}),
        "com.atproto.repo.applyWrites#update": fields(
            {**_COLLECTION, "rkey": string("record-key"), "value": any_object}
        ),
        "com.atproto.repo.applyWrites#delete": fields({**_COLLECTION, "rkey": string("record-key")}),
    },
    closed=True,
)

CREATE_RECORD = fields(
    {**_REPO, **_COLLECTION, "rkey?": _KEY, "validate?": boolean, "record": any_object, "swapCommit?": string("cid")}
)
PUT_RECORD = fields(
    {
        **_REPO,
        **_COLLECTION,
        "rkey": _KEY,
        "validate?": boolean,
        "record": any_object,
        "swapRecord?": nullable(string("cid")),
        "swapCommit?": string("cid"),
    }
)
DELETE_RECORD = fields(
    {**_REPO, **_COLLECTION, "rkey": string("record-key"), "swapRecord?": string("cid"), "swapCommit?": string("cid")}
)
APPLY_WRITES = fields({**_REPO, "validate?": boolean, "writes": array(_WRITES), "swapCommit?": string("cid")})
CREATE_SESSION = fields(
    {"identifier": string(), "password": string(), "authFactorToken?": string(), "allowTakendown?": boolean}
)
CREATE_APP_PASSWORD = fields({"name": string(), "privileged?": boolean})
REVOKE_APP_PASSWORD = fields({"name": string()})

GET_SERVICE_AUTH = fields({"aud": string(max_bytes=2048), "exp?": integer(), "lxm?": string("nsid")})
GET_RECORD = fields({**_REPO, **_COLLECTION, "rkey": string("record-key"), "cid?": string("cid")})
LIST_RECORDS = fields({**_REPO, **_COLLECTION, "limit?": integer(1, 100), "cursor?": string(), "reverse?": boolean})
DESCRIBE_REPO = fields(_REPO)
GET_BLOB = fields({"did": string("did"), "cid": string("cid")})
GET_REPO_STATUS = fields({"did": string("did")})
RESOLVE_HANDLE = fields({"handle": string("handle")})
GET_POSTS = fields({"uris": array(string("at-uri"), 25)})
GET_PROFILE = fields({"actor": string("at-identifier")})

_DRAFT_POST = fields(
    {
        "text": string(max_bytes=10_000, max_graphemes=1000),
        "labels?": union({"com.atproto.label.defs#selfLabels": _SELF_LABELS}),
        "embedExternals?": array(fields({"uri": string("uri")}), 1),
        "embedRecords?": array(fields({"record": _STRONG_REF}), 1),
    }
)
CREATE_DRAFT = fields(
    {
        "draft": fields(
            {
                "posts": array(_DRAFT_POST, 100),
                "langs?": array(string("language"), 3),
                "postgateEmbeddingRules?": array(any_object, 5),
                "threadgateAllow?": array(any_object, 5),
            }
        )
    }
)
GET_DRAFTS = fields({"limit?": integer(1, 100)})
