// A PDS, a PLC directory and a stub AppView in one process, all on 127.0.0.1.
//
//   node serve.mjs --modules FOLDER --data FOLDER [--rate-limits] [--did-doc] [--own-did] [--plc URL]
//
// Standard output is for server.py: `READY {json}` once everything listens, then one line of JSON for each XRPC request
// that ended, in that order. The process lives as long as its standard input is open.
import { randomBytes } from "node:crypto";
import { mkdirSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import path from "node:path";
import tls from "node:tls";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const { values: options } = parseArgs({
  options: {
    modules: { type: "string" },
    data: { type: "string" },
    "rate-limits": { type: "boolean", default: false },
    "did-doc": { type: "boolean", default: false },
    "own-did": { type: "boolean", default: false },
    plc: { type: "string" },
  },
});

mkdirSync(options.data, { recursive: true });
// Nothing here outlives the process, so there is nothing to close in order: exit, and sweep the folder on the way out.
process.on("exit", () => rmSync(options.data, { recursive: true, force: true }));
process.on("SIGTERM", () => process.exit(0));
process.on("SIGINT", () => process.exit(0));
// A killed test run closes our standard input; without this the server would stay behind as an orphan.
process.stdin.on("end", () => process.exit(0));
process.stdin.on("error", () => process.exit(0));
process.stdin.resume();

// The packages lie in a cache and not beside this file, where a bare `import` would look for them.
const { resolve } = createRequire(path.join(path.resolve(options.modules), "package.json"));
const { PDS } = await import(pathToFileURL(resolve("@atproto/pds")));
const { default: plc } = await import(pathToFileURL(resolve("@did-plc/server")));

const secret = () => randomBytes(32).toString("hex");
const print = (line) => process.stdout.write(`${line}\n`);

async function listen() {
  const server = createServer();
  await new Promise((listening, failed) => server.once("error", failed).listen(0, "127.0.0.1", listening));
  return { server, port: server.address().port };
}

// Both servers would call `app.listen(port)`: on all interfaces, and on a port that must be known before. Give them one
// that listens already. (The PDS also hooks its event stream, subscribeRepos, into app.listen; we have no use for it.)
function serveOn(server, app, answer = app) {
  app.listen = () => {
    server.on("request", answer);
    setImmediate(() => server.emit("listening"));
    return server;
  };
}

// An OAuth client id is an https URL without a port, and of a public name. The PDS finds a test's host of such documents
// here: by its name, on whatever port of loopback the host listens, and with the host's own certificate.
const clientHosts = new Map();
const connect = tls.connect;
tls.connect = (options, ...rest) => {
  const host = clientHosts.get(options?.servername);
  return connect(host ? { ...options, ...host } : options, ...rest);
};

const directory = await listen();
const appView = await listen();
const front = await listen();
// By name: the PDS refuses to resolve a DID at a bare IP address, and then leaves the DID document out without a word.
const plcUrl = options.plc ?? `http://localhost:${directory.port}`;
const jwtSecret = secret();
const adminPassword = secret();
const harnessKey = secret();

const plcServer = plc.PlcServer.create({ db: plc.Database.mock(), port: directory.port });
serveOn(directory.server, plcServer.app);
await plcServer.start();

const pds = await PDS.fromEnv({
  // Only with this hostname, and in dev mode, does a PDS accept plain http and name itself http://localhost:PORT.
  hostname: "localhost",
  port: front.port,
  // By default did:web:localhost, whatever the port: two PDSs would take each other's tokens for their own.
  serviceDid: options["own-did"] ? `did:web:localhost%3A${front.port}` : undefined,
  devMode: true,
  dataDirectory: options.data,
  blobstoreDiskLocation: path.join(options.data, "blobs"),
  blobstoreDiskTmpLocation: path.join(options.data, "blobs-tmp"),
  jwtSecret,
  adminPassword,
  plcRotationKeyK256PrivateKeyHex: secret(),
  didPlcUrl: plcUrl,
  disableSsrfProtection: true,
  inviteRequired: false,
  serviceHandleDomains: [".test"],
  bskyAppViewUrl: `http://localhost:${appView.port}`,
  bskyAppViewDid: "did:web:appview.test",
  rateLimitsEnabled: options["rate-limits"],
  rateLimitBypassKey: harnessKey,
  enableDidDocWithSession: options["did-doc"],
});

// The Python SDK asks for the profile whenever it logs in, and a PDS hands that question to its AppView.
appView.server.on("request", async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://appview");
  if (pathname === "/move") {
    // What the owner of an account that moves has its old PDS sign, and the directory do.
    const [did, key] = [searchParams.get("did"), searchParams.get("key")];
    await pds.ctx.plcClient.updatePds(did, pds.ctx.plcRotationKey, searchParams.get("pds"));
    if (key) {
      await pds.ctx.plcClient.updateAtprotoKey(did, pds.ctx.plcRotationKey, key);
      await pds.ctx.plcClient.updateRotationKeys(did, pds.ctx.plcRotationKey, searchParams.getAll("rotation"));
    }
    await pds.ctx.idResolver.did.resolve(did, true);
    response.end();
    return;
  }
  if (pathname === "/client-host") {
    const [port, ca] = [Number(searchParams.get("port")), searchParams.get("certificate")];
    clientHosts.set(searchParams.get("name"), { host: "127.0.0.1", port, ca });
    response.end();
    return;
  }
  if (pathname === "/forget-client") {
    // The PDS reads a client's documents again after ten minutes.
    const { clientManager } = pds.ctx.oauthProvider;
    for (const documents of [clientManager.metadataGetter, clientManager.jwks]) await documents.delStored(searchParams.get("url"));
    response.end();
    return;
  }
  if (pathname === "/lexicon-authority") {
    // Elsewhere, DNS says which account has the lexicons of a name.
    pds.ctx.cfg.lexicon.didAuthority = searchParams.get("did");
    response.end();
    return;
  }
  if (pathname === "/lose-headers") {
    lostHeaders = searchParams.getAll("name");
    response.end();
    return;
  }
  if (pathname === "/trouble") {
    response.end(`${trouble.struck}`);
    trouble = { path: searchParams.get("path"), kind: searchParams.get("kind"), left: Number(searchParams.get("times")), struck: 0 };
    return;
  }
  const known = pathname === "/xrpc/app.bsky.actor.getProfile";
  const account = known && (await pds.ctx.accountManager.getAccount(searchParams.get("actor")));
  const body = account
    ? { did: account.did, handle: account.handle }
    : { error: known ? "NotFound" : "MethodNotImplemented", message: "The stub AppView does not know this" };
  response.writeHead(account ? 200 : known ? 400 : 501, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
});

// What a proxy in front of the PDS does not pass on.
let lostHeaders = [];
front.server.on("request", (request, response) => {
  const { setHeader } = response;
  response.setHeader = (name, value) => (lostHeaders.includes(name.toLowerCase()) ? response : setHeader.call(response, name, value));
});

const isOurs = (request) => request.headers["x-ratelimit-bypass"] === harnessKey;

// What happens to the next requests whose path begins like this. `lost`: the PDS hears nothing of the request. `failing`:
// the answer is a 500. `dropped`: the PDS carries the request out, and the connection ends in place of the answer.
let trouble = { left: 0, struck: 0 };
function answerInTrouble(request, response) {
  const here = trouble;
  if (!here.left || isOurs(request) || !request.url.startsWith(here.path)) return pds.app(request, response);
  const strike = () => {
    here.left -= 1;
    here.struck += 1;
  };
  if (here.kind === "dropped") {
    const { end } = response;
    response.end = (...rest) => {
      // A refusal is no work, and a client without a nonce meets one first.
      if (!here.left || response.statusCode >= 300) return end.apply(response, rest);
      strike();
      request.socket.destroy();
      return response;
    };
    return pds.app(request, response);
  }
  strike();
  if (here.kind === "lost") return request.socket.destroy();
  response.writeHead(500, { "content-type": "application/json" });
  response.end(JSON.stringify({ error: "server_error", error_description: "Server error" }));
}

// "close" and not "finish": it comes once for every request, also when the client went away before the answer.
front.server.on("request", (request, response) => {
  const { method, url } = request;
  const [, nsid] = url.match(/^\/xrpc\/([^/?]+)/) ?? url.match(/^\/(oauth\/[a-z]+)/) ?? [];
  // What the harness itself asks shall neither be counted nor limited: one header does both.
  const ours = isOurs(request);
  const fence = ours && url.match(/[?&]fence=(\w+)/)?.[1];
  const { end } = response;
  let said;
  response.end = (...rest) => {
    const isRefusal = response.statusCode >= 400 && `${response.getHeader("content-type")}`.startsWith("application/json");
    if (nsid?.startsWith("oauth/") && isRefusal) said = JSON.parse(rest[0] ?? "{}").error_description;
    return end.apply(response, rest);
  };
  response.on("close", async () => {
    if (fence) {
      // That an earlier client hung up takes a few turns of the event loop to get here: let it get here first.
      for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
      print(JSON.stringify({ fence }));
    }
    if (nsid && !ours) print(JSON.stringify({ nsid, method, status: response.headersSent ? response.statusCode : null, said }));
  });
});

serveOn(front.server, pds.app, answerInTrouble);
await pds.start();

const ready = { plcUrl, harnessUrl: `http://localhost:${appView.port}`, jwtSecret, adminPassword, harnessKey, dataDirectory: options.data };
print(`READY ${JSON.stringify({ url: pds.ctx.cfg.service.publicUrl, did: pds.ctx.cfg.service.did, ...ready })}`);
