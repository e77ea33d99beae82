"""The XRPC methods of records and blobs."""

from .accounts import Accounts, Holder, account_not_found, refuse_inactive, visible
from .refusal import bad_request, unauthorized
from .repo import ANY_RECORD, MAX_WRITES, Action, Commit, Repo, Write
from .xrpc import Answer, Arguments, Call, Json

_KIND = "com.atproto.repo.applyWrites#"


class Records:
    """Records and blobs."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def create_record(self, call: Call, args: Arguments) -> Json:
        body, repo = args.body, self._writable(args).repo
        _need_scope(args, body["collection"], Action.CREATE)
        write = repo.prepare(
            Action.CREATE, body["collection"], body["record"], rkey=body.get("rkey"), validate=body.get("validate")
        )
        commit = repo.commit([write], body.get("swapCommit"))
        return {**_about_record(repo, write), **_about_commit(commit), **_validation(write)}

    def put_record(self, call: Call, args: Arguments) -> Json:
        body, repo = args.body, self._writable(args).repo
        _need_scope(args, body["collection"], Action.CREATE, Action.UPDATE)
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
        _need_scope(args, body["collection"], Action.DELETE)
        if repo.get(body["collection"], body["rkey"]) is None:
            return {}
        swap = body.get("swapRecord", ANY_RECORD)
        write = Write(Action.DELETE, body["collection"], body["rkey"], swap=swap)
        return _about_commit(repo.commit([write], body.get("swapCommit")))

    def apply_writes(self, call: Call, args: Arguments) -> Json:
        body, repo = args.body, self._writable(args).repo
        if len(body["writes"]) > MAX_WRITES:
            raise bad_request(f"Too many writes. Max: {MAX_WRITES}")
        actions = [Action(item["$type"].removeprefix(_KIND)) for item in body["writes"]]
        for wanted in Action:
            for action, item in zip(actions, body["writes"], strict=True):
                if action is wanted:
                    _need_scope(args, item["collection"], action)
        writes = []
        for index, (action, item) in enumerate(zip(actions, body["writes"], strict=True)):
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
        holder = visible(self._accounts, args.params["repo"])
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
            holder = visible(self._accounts, did)
            record = holder.repo.get(collection, rkey) if holder else None
            if holder and record:
                author = {"did": holder.did, "handle": holder.handle}
                counts = dict.fromkeys(("replyCount", "repostCount", "likeCount", "quoteCount"), 0)
                counts |= holder.reactions.get(rkey, {})
                about = {"indexedAt": record.value["createdAt"], "author": author, "record": record.value}
                found.append({"uri": uri, "cid": record.cid, **about, **counts})
        return {"posts": found}

    def list_records(self, call: Call, args: Arguments) -> Json:
        holder = visible(self._accounts, args.params["repo"])
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


def _need_scope(args: Arguments, collection: str, *actions: Action) -> None:
    """Raise `Refusal` if a granted session lacks what a write needs."""
    permissions = args.claims.get("permissions")
    if permissions is not None:
        for action in actions:
            permissions.needs_record(collection, action)


def _about_record(repo: Repo, write: Write) -> Json:
    if write.record is None:
        return {}
    return {"uri": repo.uri(write.collection, write.rkey), "cid": write.record.cid}


def _about_commit(commit: Commit) -> Json:
    return {"commit": {"cid": commit.cid, "rev": commit.rev}}


def _validation(write: Write) -> Json:
    return {"validationStatus": write.validation_status} if write.validation_status else {}
