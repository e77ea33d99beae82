"""The schemas that the sandbox knows: of records, of what methods are sent, and of their query parameters."""

from .lexicon import any_object, array, blob, boolean, fields, integer, nullable, string, union

_STRONG_REF = fields({"uri": string("at-uri"), "cid": string("cid")})
_ASPECT_RATIO = fields({"width": integer(1), "height": integer(1)})
_IMAGE = fields({"image": blob("image/*", 2_000_000), "alt": string(), "aspectRatio?": _ASPECT_RATIO})
_IMAGES = fields({"images": array(_IMAGE, 4)})
_CAPTION = fields({"lang": string("language"), "file": blob("text/vtt", 20_000)})
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
        "external": fields(
            {
                "uri": string("uri"),
                "title": string(),
                "description": string(),
                "thumb?": blob("image/*", 1_000_000),
                "associatedRefs?": array(_STRONG_REF),
            }
        )
    }
)
_QUOTE = fields({"record": _STRONG_REF})
_MEDIA = {
    "app.bsky.embed.images": _IMAGES,
    "app.bsky.embed.video": _VIDEO,
    "app.bsky.embed.external": _EXTERNAL,
}
_QUOTE_WITH_MEDIA = fields({"record": _QUOTE, "media": union(_MEDIA)})
_TAG = string(max_bytes=640, max_graphemes=64)
_FACET = fields(
    {
        "index": fields({"byteStart": integer(0), "byteEnd": integer(0)}),
        "features": array(
            union(
                {
                    "app.bsky.richtext.facet#mention": fields({"did": string("did")}),
                    "app.bsky.richtext.facet#link": fields({"uri": string("uri")}),
                    "app.bsky.richtext.facet#tag": fields({"tag": _TAG}),
                }
            )
        ),
    }
)
_SELF_LABELS = fields({"values": array(fields({"val": string(max_bytes=128)}), 10)})

RECORDS = {
    "app.bsky.feed.post": fields(
        {
            "text": string(max_bytes=3000, max_graphemes=300),
            "facets?": array(_FACET),
            "reply?": fields({"root": _STRONG_REF, "parent": _STRONG_REF}),
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
            "allow?": array(union({"app.bsky.feed.threadgate#listRule": fields({"list": string("at-uri")})}), 5),
            "createdAt": string("datetime"),
            "hiddenReplies?": array(string("at-uri"), 300),
        }
    ),
    "app.bsky.feed.postgate": fields(
        {
            "createdAt": string("datetime"),
            "post": string("at-uri"),
            "detachedEmbeddingUris?": array(string("at-uri"), 50),
            "embeddingRules?": array(union({}), 5),
        }
    ),
}
"""Records that are checked unless `validate` is false. The keys of all of them are TIDs."""

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
    {
        **_REPO,
        **_COLLECTION,
        "rkey": string("record-key"),
        "swapRecord?": string("cid"),
        "swapCommit?": string("cid"),
    }
)
APPLY_WRITES = fields({**_REPO, "validate?": boolean, "writes": array(_WRITES), "swapCommit?": string("cid")})
CREATE_SESSION = fields(
    {"identifier": string(), "password": string(), "authFactorToken?": string(), "allowTakendown?": boolean}
)
CREATE_APP_PASSWORD = fields({"name": string(), "privileged?": boolean})
REVOKE_APP_PASSWORD = fields({"name": string()})

GET_RECORD = fields({**_REPO, **_COLLECTION, "rkey": string("record-key"), "cid?": string("cid")})
LIST_RECORDS = fields({**_REPO, **_COLLECTION, "limit?": integer(1, 100), "cursor?": string(), "reverse?": boolean})
DESCRIBE_REPO = fields(_REPO)
GET_REPO_STATUS = fields({"did": string("did")})
RESOLVE_HANDLE = fields({"handle": string("handle")})
GET_PROFILE = fields({"actor": string("at-identifier")})
