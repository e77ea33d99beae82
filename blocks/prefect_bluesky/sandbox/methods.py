"""The XRPC methods of the sandbox, with the answers of a real PDS."""

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from . import schemas
from .accounts import Accounts, Holder, account_not_found, refuse_inactive
from .identifiers import Tids
from .refusal import bad_request, unauthorized
from .repo import ANY_RECORD, MAX_WRITES, Action, Commit, Repo, Write
from .service_auth import ServiceAuth
from .tokens import MAIN_ONLY, Tokens, unverified
from .xrpc import BLOB_LIMIT, Answer, Arguments, Call, Claims, Json, Method

_WRITE_LIMIT = 1_000_000
_KIND = "com.atproto.repo.applyWrites#"
_UPLOAD = "com.atproto.repo.uploadBlob"
DidDocument = Callable[[Holder], Json]


def methods(
    accounts: Accounts, tokens: Tokens, service_auth: ServiceAuth, did_document: DidDocument, *, in_session: bool
) -> dict[str, Method]:
    """Return all methods by their NSID.

    Args:
        accounts: the state of the methods.
        tokens: checks Authorization headers.
        service_auth: issues and checks tokens for other services.
        did_document: makes an account's DID document.
        in_session: True if answers about a session contain the DID document.
    """
    server = _Sessions(accounts, did_document if in_session else None)
    repo = _Records(accounts)
    identity = _Identity(accounts, did_document)
    drafts = _Drafts()
    session = tokens.access

    def blob_auth(authorization: str | None) -> Claims:
        _, claims = unverified(authorization)
        if claims.get("lxm") is not None:
            return service_auth.account(authorization, _UPLOAD)  # a PDS accepts it even for an account taken down
        return _not_taken_down(accounts, session(authorization))

    def main_auth(authorization: str | None) -> Claims:
        return _not_taken_down(accounts, session(authorization, MAIN_ONLY))

    write = partial(Method, verb="POST", auth=session, limit=_WRITE_LIMIT)
    return {
        "_health": Method(lambda call, args: {"version": "sandbox"}),
        "com.atproto.server.describeServer": Method(partial(_describe_server, tokens.service_did)),
        "com.atproto.server.createSession": Method(server.create_session, "POST", body=schemas.CREATE_SESSION),
        "com.atproto.server.refreshSession": Method(server.refresh_session, "POST", auth=tokens.refresh),
        "com.atproto.server.getSession": Method(server.get_session, auth=session),
        "com.atproto.server.deleteSession": Method(
            server.delete_session, "POST", auth=partial(tokens.refresh, allow_expired=True)
        ),
        "com.atproto.server.createAppPassword": Method(
            server.create_app_password, "POST", auth=main_auth, body=schemas.CREATE_APP_PASSWORD
        ),
        "com.atproto.server.listAppPasswords": Method(server.list_app_passwords, auth=session),
        "com.atproto.server.revokeAppPassword": Method(
            server.revoke_app_password, "POST", auth=session, body=schemas.REVOKE_APP_PASSWORD
        ),
        "com.atproto.server.getServiceAuth": Method(
            service_auth.get_service_auth, params=schemas.GET_SERVICE_AUTH, auth=service_auth.session
        ),
        "com.atproto.repo.createRecord": write(repo.create_record, body=schemas.CREATE_RECORD),
        "com.atproto.repo.putRecord": write(repo.put_record, body=schemas.PUT_RECORD),
        "com.atproto.repo.deleteRecord": write(repo.delete_record, body=schemas.DELETE_RECORD),
        "com.atproto.repo.applyWrites": write(repo.apply_writes, body=schemas.APPLY_WRITES),
        "com.atproto.repo.getRecord": Method(repo.get_record, params=schemas.GET_RECORD),
        "com.atproto.repo.listRecords": Method(repo.list_records, params=schemas.LIST_RECORDS),
        "com.atproto.repo.describeRepo": Method(identity.describe_repo, params=schemas.DESCRIBE_REPO),
        _UPLOAD: Method(repo.upload_blob, "POST", auth=blob_auth, body="blob"),
        "com.atproto.identity.resolveHandle": Method(identity.resolve_handle, params=schemas.RESOLVE_HANDLE),
        "com.atproto.sync.getBlob": Method(repo.get_blob, params=schemas.GET_BLOB),
        "com.atproto.sync.getRepoStatus": Method(identity.get_repo_status, params=schemas.GET_REPO_STATUS),
        "app.bsky.actor.getProfile": Method(identity.get_profile, params=schemas.GET_PROFILE, auth=session),
        "app.bsky.feed.getPosts": Method(repo.get_posts, params=schemas.GET_POSTS),
        "app.bsky.draft.createDraft": Method(drafts.create, "POST", body=schemas.CREATE_DRAFT, auth=session),
        "app.bsky.draft.getDrafts": Method(drafts.newest, params=schemas.GET_DRAFTS, auth=session),
    }


def _describe_server(service_did: str, call: Call, args: Arguments) -> Json:
    return {
        "did": service_did,
        "availableUserDomains": [".test"],
        "inviteCodeRequired": False,
        "blobUploadLimit": BLOB_LIMIT,
        "links": {},
        "contact": {},
    }


class _Sessions:
    """Sessions and app passwords."""

    def __init__(self, accounts: Accounts, did_document: DidDocument | None) -> None:
        self._accounts = accounts
        self._did_document = did_document

    def create_session(self, call: Call, args: Arguments) -> Json:
        holder, app_password = self._accounts.log_in(args.body["identifier"], args.body["password"])
        if not args.body.get("allowTakendown"):
            refuse_inactive(holder, deactivated=False)
        call.did = holder.did
        return {**self._accounts.open_session(holder, app_password), **self._about(holder)}

    def refresh_session(self, call: Call, args: Arguments) -> Json:
        holder = self._holder(args.claims)
        refuse_inactive(holder, deactivated=False)
        return {**self._accounts.rotate(args.claims["jti"]), **self._about(holder)}

    def get_session(self, call: Call, args: Arguments) -> Json:
        holder = self._holder(args.claims)
        if holder.taken_down:
            raise _no_user(holder.did)
        return self._about(holder)

    def delete_session(self, call: Call, args: Arguments) -> None:
        self._accounts.revoke(args.claims["jti"])

    def create_app_password(self, call: Call, args: Arguments) -> Json:
        privileged = args.body.get("privileged", False)
        made = self._accounts.add_app_password(self._holder(args.claims), args.body["name"], privileged=privileged)
        return {
            "name": made.name,
            "password": made.password,
            "createdAt": made.created_at,
            "privileged": made.privileged,
        }

    def list_app_passwords(self, call: Call, args: Arguments) -> Json:
        listed = [
            {"name": made.name, "createdAt": made.created_at, "privileged": made.privileged}
            for made in self._holder(args.claims).app_passwords.values()
        ]
        return {"passwords": listed[::-1]}

    def revoke_app_password(self, call: Call, args: Arguments) -> None:
        self._accounts.revoke_app_password(self._holder(args.claims), args.body["name"])

    def _holder(self, claims: Claims) -> Holder:
        holder = self._accounts.find(claims["sub"])
        if holder is None:
            raise _no_user(claims["sub"])
        return holder

    def _about(self, holder: Holder) -> Json:
        document = {"didDoc": self._did_document(holder)} if self._did_document else {}
        about = {"did": holder.did, **document, "handle": holder.handle, "email": holder.email}
        return {**about, "emailConfirmed": False, **holder.status}


class _Records:
    """Records and blobs."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def create_record(self, call: Call, args: Arguments) -> Json:
        body, repo = args.body, self._writable(args).repo
        write = repo.prepare(
            Action.CREATE, body["collection"], body["record"], rkey=body.get("rkey"), validate=body.get("validate")
        )
        commit = repo.commit([write], body.get("swapCommit"))
        return {**_about_record(repo, write), **_about_commit(commit), **_validation(write)}

    def put_record(self, call: Call, args: Arguments) -> Json:
        body, repo = args.body, self._writable(args).repo
        current = repo.get(body["collection"], body["rkey"])
        write = repo.prepare(
            Action.UPDATE if current else Action.CREATE,
            body["collection"],
            body["record"],
            rkey=body["rkey"],
            validate=body.get("validate"),
            swap=body.get("swapRecord", ANY_RECORD),
        )
        # Writing an unchanged record makes no commit, and does not check the swap conditions either.
        unchanged = current is not None and write.record is not None and current.cid == write.record.cid
        commit = {} if unchanged else _about_commit(repo.commit([write], body.get("swapCommit")))
        return {**_about_record(repo, write), **commit, **_validation(write)}

    def delete_record(self, call: Call, args: Arguments) -> Json:
        body, repo = args.body, self._writable(args).repo
        if repo.get(body["collection"], body["rkey"]) is None:
            return {}
        swap = body.get("swapRecord", ANY_RECORD)
        write = Write(Action.DELETE, body["collection"], body["rkey"], swap=swap)
        return _about_commit(repo.commit([write], body.get("swapCommit")))

    def apply_writes(self, call: Call, args: Arguments) -> Json:
        body, repo = args.body, self._writable(args).repo
        if len(body["writes"]) > MAX_WRITES:
            raise bad_request(f"Too many writes. Max: {MAX_WRITES}")
        writes = []
        for index, item in enumerate(body["writes"]):
            action = Action(item["$type"].removeprefix(_KIND))
            if action is Action.DELETE:
                writes.append(Write(action, item["collection"], item["rkey"]))
                continue
            path = ("writes", index, "record")  # a PDS says "record" here, although the field is "value"
            key, validate = item.get("rkey"), body.get("validate")
            writes.append(
                repo.prepare(action, item["collection"], item["value"], rkey=key, validate=validate, path=path)
            )
        commit = repo.commit(writes, body.get("swapCommit"))
        results = [
            {"$type": f"{_KIND}{write.action}Result", **_about_record(repo, write), **_validation(write)}
            for write in writes
        ]
        return {**_about_commit(commit), "results": results}

    def get_record(self, call: Call, args: Arguments) -> Json:
        holder = _visible(self._accounts, args.params["repo"])
        if holder is None:
            raise bad_request("Could not locate record")
        collection, rkey = args.params["collection"], args.params["rkey"]
        record, uri = holder.repo.get(collection, rkey), holder.repo.uri(collection, rkey)
        if record is None or args.params.get("cid", record.cid) != record.cid:
            raise bad_request(f"Could not locate record: {uri}", "RecordNotFound")
        return {"uri": uri, "cid": record.cid, "value": record.value}

    def get_posts(self, call: Call, args: Arguments) -> Json:
        """Answer as an AppView does, which leaves out what it does not know."""
        found = []
        for uri in args.params["uris"]:
            did, collection, rkey = uri.removeprefix("at://").split("/")
            holder = _visible(self._accounts, did)
            record = holder.repo.get(collection, rkey) if holder else None
            if holder and record:
                author = {"did": holder.did, "handle": holder.handle}
                counts = dict.fromkeys(("replyCount", "repostCount", "likeCount", "quoteCount"), 0)
                counts |= holder.reactions.get(rkey, {})
                about = {"indexedAt": record.value["createdAt"], "author": author, "record": record.value}
                found.append({"uri": uri, "cid": record.cid, **about, **counts})
        return {"posts": found}

    def list_records(self, call: Call, args: Arguments) -> Json:
        holder = _visible(self._accounts, args.params["repo"])
        if holder is None:
            raise bad_request(f"Could not find repo: {args.params['repo']}")
        collection, cursor = args.params["collection"], args.params.get("cursor")
        oldest_first = args.params.get("reverse", False)
        records = sorted(holder.repo.records_of(collection), reverse=not oldest_first, key=lambda item: item[0])
        if cursor is not None:
            records = [item for item in records if (item[0] > cursor if oldest_first else item[0] < cursor)]
        page = records[: args.params.get("limit", 50)]
        listed = [
            {"uri": holder.repo.uri(collection, rkey), "cid": record.cid, "value": record.value}
            for rkey, record in page
        ]
        return {"records": listed, **({"cursor": page[-1][0]} if page else {})}

    def upload_blob(self, call: Call, args: Arguments) -> Json:
        holder = self._accounts.find(args.claims["sub"])
        if holder is None:
            raise account_not_found()
        return {"blob": holder.repo.upload(args.blob, args.content_type)}

    def get_blob(self, call: Call, args: Arguments) -> Answer:
        did = args.params["did"]
        holder = self._accounts.find(did)
        if holder is None:
            raise bad_request(f"Could not find repo for DID: {did}", "RepoNotFound")
        blob = holder.repo.blob(args.params["cid"])
        if blob is None:
            raise bad_request("Blob not found")
        return Answer(200, blob.content, {"content-type": blob.mime_type})

    def _writable(self, args: Arguments) -> Holder:
        holder = self._accounts.find(args.body["repo"])
        if holder is None:
            raise account_not_found()
        refuse_inactive(holder)
        if holder.did != args.claims["sub"]:
            raise unauthorized()
        return holder


class _Identity:
    """Handles, accounts and their status."""

    def __init__(self, accounts: Accounts, did_document: DidDocument) -> None:
        self._accounts = accounts
        self._did_document = did_document

    def resolve_handle(self, call: Call, args: Arguments) -> Json:
        handle = args.params["handle"].lower()
        holder = _visible(self._accounts, handle)
        if holder is not None:
            return {"did": holder.did}
        error = "HandleNotFound" if handle.endswith(".test") else "InvalidRequest"
        raise bad_request("Unable to resolve handle", error)

    def describe_repo(self, call: Call, args: Arguments) -> Json:
        name = args.params["repo"]
        holder = self._accounts.find(name)
        if holder is None:
            raise bad_request(f"Could not find repo for DID: {name}", "RepoNotFound")
        if holder.taken_down:
            raise bad_request(f"Repo has been takendown: {name}", "RepoTakendown")
        if holder.deactivated:
            raise bad_request(f"Repo has been deactivated: {name}", "RepoDeactivated")
        return {
            "handle": holder.handle,
            "did": holder.did,
            "didDoc": self._did_document(holder),
            "collections": holder.repo.collections(),
            "handleIsCorrect": True,
        }

    def get_repo_status(self, call: Call, args: Arguments) -> Json:
        did = args.params["did"]
        holder = self._accounts.find(did)
        if holder is None:
            raise bad_request(f"Could not find repo for DID: {did}", "RepoNotFound")
        return {"did": did, **holder.status}

    def get_profile(self, call: Call, args: Arguments) -> Json:
        holder = _visible(self._accounts, args.params["actor"].lower())
        if holder is None:
            raise bad_request("Profile not found")
        return {"did": holder.did, "handle": holder.handle}


class _Drafts:
    """The drafts that an AppView keeps for its accounts."""

    def __init__(self) -> None:
        self._of: defaultdict[str, list[Json]] = defaultdict(list)
        self._tids = Tids()

    def create(self, call: Call, args: Arguments) -> Json:
        now = datetime.now(UTC)
        name, at = self._tids.next(now.timestamp()), now.isoformat().replace("+00:00", "Z")
        view = {"id": name, "draft": args.body["draft"], "createdAt": at, "updatedAt": at}
        self._of[args.claims["sub"]].insert(0, view)
        return {"id": name}

    def newest(self, call: Call, args: Arguments) -> Json:
        return {"drafts": self._of[args.claims["sub"]][: args.params.get("limit", 50)]}


def _visible(accounts: Accounts, identifier: str) -> Holder | None:
    holder = accounts.find(identifier)
    return holder if holder and not holder.taken_down and not holder.deactivated else None


def _not_taken_down(accounts: Accounts, claims: Claims) -> Claims:
    holder = accounts.find(claims["sub"])
    if holder is None:
        raise account_not_found()
    refuse_inactive(holder, deactivated=False)
    return claims


def _no_user(did: str) -> Exception:
    return bad_request(f"Could not find user info for account: {did}")


def _about_record(repo: Repo, write: Write) -> Json:
    if write.record is None:
        return {}
    return {"uri": repo.uri(write.collection, write.rkey), "cid": write.record.cid}


def _about_commit(commit: Commit) -> Json:
    return {"commit": {"cid": commit.cid, "rev": commit.rev}}


def _validation(write: Write) -> Json:
    return {"validationStatus": write.validation_status} if write.validation_status else {}
