"""The XRPC methods of the sandbox, with the answers of a real PDS."""

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from . import schemas
from .accounts import Accounts, Holder, refuse_inactive, visible
from .authorization import UPLOAD, Authorization
from .identifiers import Tids
from .record_methods import Records
from .refusal import bad_request
from .service_auth import ServiceAuth
from .xrpc import BLOB_LIMIT, Arguments, Call, Claims, Json, Method

_WRITE_LIMIT = 1_000_000
DidDocument = Callable[[Holder], Json]


def methods(
    accounts: Accounts,
    authorization: Authorization,
    service_auth: ServiceAuth,
    did_document: DidDocument,
    *,
    service_did: str,
    in_session: bool,
) -> dict[str, Method]:
    """Return all methods by their NSID.

    Args:
        accounts: the state of the methods.
        authorization: checks who makes a call.
        service_auth: issues tokens for other services.
        did_document: makes an account's DID document.
        service_did: the DID of the sandbox.
        in_session: True if answers about a session contain the DID document.
    """
    server = _Sessions(accounts, did_document if in_session else None)
    repo = Records(accounts)
    identity = _Identity(accounts, did_document)
    drafts = _Drafts()
    auth = authorization
    write = partial(Method, verb="POST", auth=auth.session, limit=_WRITE_LIMIT)
    return {
        "_health": Method(lambda call, args: {"version": "sandbox"}),
        "com.atproto.server.describeServer": Method(partial(_describe_server, service_did)),
        "com.atproto.server.createSession": Method(server.create_session, "POST", body=schemas.CREATE_SESSION),
        "com.atproto.server.refreshSession": Method(server.refresh_session, "POST", auth=auth.refresh),
        "com.atproto.server.getSession": Method(server.get_session, auth=auth.session),
        "com.atproto.server.deleteSession": Method(
            server.delete_session, "POST", auth=partial(auth.refresh, allow_expired=True)
        ),
        "com.atproto.server.createAppPassword": Method(
            server.create_app_password, "POST", auth=auth.main_password, body=schemas.CREATE_APP_PASSWORD
        ),
        "com.atproto.server.listAppPasswords": Method(server.list_app_passwords, auth=auth.password),
        "com.atproto.server.revokeAppPassword": Method(
            server.revoke_app_password, "POST", auth=auth.password, body=schemas.REVOKE_APP_PASSWORD
        ),
        "com.atproto.server.getServiceAuth": Method(
            service_auth.get_service_auth, params=schemas.GET_SERVICE_AUTH, auth=auth.service_auth
        ),
        "com.atproto.repo.createRecord": write(repo.create_record, body=schemas.CREATE_RECORD),
        "com.atproto.repo.putRecord": write(repo.put_record, body=schemas.PUT_RECORD),
        "com.atproto.repo.deleteRecord": write(repo.delete_record, body=schemas.DELETE_RECORD),
        "com.atproto.repo.applyWrites": write(repo.apply_writes, body=schemas.APPLY_WRITES),
        "com.atproto.repo.getRecord": Method(repo.get_record, params=schemas.GET_RECORD),
        "com.atproto.repo.listRecords": Method(repo.list_records, params=schemas.LIST_RECORDS),
        "com.atproto.repo.describeRepo": Method(identity.describe_repo, params=schemas.DESCRIBE_REPO),
        UPLOAD: Method(repo.upload_blob, "POST", auth=auth.upload, body="blob"),
        "com.atproto.identity.resolveHandle": Method(identity.resolve_handle, params=schemas.RESOLVE_HANDLE),
        "com.atproto.sync.getBlob": Method(repo.get_blob, params=schemas.GET_BLOB),
        "com.atproto.sync.getRepoStatus": Method(identity.get_repo_status, params=schemas.GET_REPO_STATUS),
        "app.bsky.actor.getProfile": Method(identity.get_profile, params=schemas.GET_PROFILE, auth=auth.app_view),
        "app.bsky.feed.getPosts": Method(repo.get_posts, params=schemas.GET_POSTS),
        "app.bsky.draft.createDraft": Method(drafts.create, "POST", body=schemas.CREATE_DRAFT, auth=auth.app_view),
        "app.bsky.draft.getDrafts": Method(drafts.newest, params=schemas.GET_DRAFTS, auth=auth.app_view),
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
        about = self._about(holder)
        if "permissions" in args.claims and not args.claims["permissions"].reads_email:
            return {name: value for name, value in about.items() if name not in ("email", "emailConfirmed")}
        return about

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


class _Identity:
    """Handles, accounts and their status."""

    def __init__(self, accounts: Accounts, did_document: DidDocument) -> None:
        self._accounts = accounts
        self._did_document = did_document

    def resolve_handle(self, call: Call, args: Arguments) -> Json:
        handle = args.params["handle"].lower()
        holder = visible(self._accounts, handle)
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
        holder = visible(self._accounts, args.params["actor"].lower())
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


def _no_user(did: str) -> Exception:
    return bad_request(f"Could not find user info for account: {did}")
