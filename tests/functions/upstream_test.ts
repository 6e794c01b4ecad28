/** The whole host before a live AI, and the same AI's handler with our two lines in it. */

import assert from "node:assert/strict";
import { handleBatchCall, serve } from "../../supabase/functions/_shared/batch_call/mod.ts";
import { body, logged, serving, withEnv } from "./support.ts";

/** An AI as it stands on its host today: a WebSocket at any path, plain text for the rest. */
function ai(req: Request): Response | Promise<Response> {
  if (req.headers.get("upgrade")?.toLowerCase() === "websocket") {
    const protocol = req.headers.get("sec-websocket-protocol")?.split(",")[0];
    const { socket, response } = Deno.upgradeWebSocket(req, protocol ? { protocol } : {});
    socket.binaryType = "arraybuffer";
    const path = new URL(req.url).pathname + new URL(req.url).search;
    socket.onopen = (): void => socket.send(`hello at ${path}`);
    socket.onmessage = ({ data }): void => {
      if (data === "end") return socket.close(4321, "as asked");
      if (data === "fail") return socket.close(1000, "done");
      socket.send(data);
    };
    return response;
  }
  const url = new URL(req.url);
  if (url.pathname === "/moved") return Response.redirect(`${url.origin}/elsewhere`, 302);
  return req.text().then((text) =>
    new Response(`${req.method} ${url.pathname}${url.search} ${text} ${req.headers.get("x-own")}`, {
      status: 202,
      headers: { "x-answer": "yes", connection: "x-hop", "x-hop": "1" },
    })
  );
}

/** Today's handler of that host, with the two lines. */
function mounted(req: Request): Response | Promise<Response> {
  if (new URL(req.url).pathname === "/batch-call") return handleBatchCall(req);
  return ai(req);
}

class Line {
  readonly #heard: (string | ArrayBuffer)[] = [];
  readonly #waiting: ((data: string | ArrayBuffer) => void)[] = [];
  readonly closed: Promise<CloseEvent>;
  constructor(readonly socket: WebSocket) {
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }): void => {
      const next = this.#waiting.shift();
      if (next) next(data);
      else this.#heard.push(data);
    };
    this.closed = new Promise((resolve) => socket.onclose = resolve);
  }
  next(): Promise<string | ArrayBuffer> {
    const data = this.#heard.shift();
    return data === undefined ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve(data);
  }
}

function dial(url: string, protocols?: string[]): Promise<Line> {
  const socket = new WebSocket(url.replace("http", "ws"), protocols ?? []);
  const line = new Line(socket);
  return new Promise((resolve, reject) => {
    socket.onopen = (): void => resolve(line);
    socket.onerror = (event): void => {
      event.preventDefault();
      reject(new Error("refused"));
    };
  });
}

/** A conversation as a call is one: texts and sound in order, both ways, until the AI ends it. */
async function talks(url: string): Promise<void> {
  const line = await dial(`${url}/audio-socket?call=7`);
  assert.equal(await line.next(), "hello at /audio-socket?call=7");
  line.socket.send('{"call_id":"1"}');
  assert.equal(await line.next(), '{"call_id":"1"}');
  for (let n = 0; n < 200; n++) line.socket.send(new Uint8Array(320).fill(n));
  for (let n = 0; n < 200; n++) {
    assert.deepEqual(new Uint8Array(await line.next() as ArrayBuffer), new Uint8Array(320).fill(n));
  }
  line.socket.send("end");
  const { code, reason } = await line.closed;
  assert.deepEqual([code, reason], [4321, "as asked"]);
}

function whole<T>(upstream: Deno.ServeHandler, work: (url: string, ai: string) => Promise<T>): Promise<T> {
  return serving(upstream, (there) => withEnv({ AI_UPSTREAM: there }, () => serving(serve, (url) => work(url, there))));
}

Deno.test("run as a whole: a live WebSocket goes to AI_UPSTREAM", async () => {
  await whole(ai, talks);
});

Deno.test("mounted in the AI's own handler: its WebSocket is untouched, /batch-call is ours", async () => {
  await withEnv({}, () =>
    serving(mounted, async (url) => {
      await talks(url);
      const options = await fetch(`${url}/batch-call`, { method: "OPTIONS" });
      assert.equal(options.headers.get("access-control-allow-origin"), "*");
      assert.equal(await options.text(), "");
      await body(await fetch(`${url}/batch-call`), 405);
      assert.match(await (await fetch(`${url}/other`)).text(), /^GET \/other/);
    }));
});

Deno.test("an upgrade at our own path is the AI's, and its subprotocol comes back", async () => {
  await whole(ai, async (url) => {
    const line = await dial(`${url}/batch-call`, ["audio", "other"]);
    assert.equal(line.socket.protocol, "audio");
    assert.equal(await line.next(), "hello at /batch-call");
    line.socket.send("fail");
    const { code, reason } = await line.closed;
    assert.deepEqual([code, reason], [1000, "done"]);
  });
});

Deno.test("when the caller hangs up, the AI hears it", async () => {
  const heard = Promise.withResolvers<[number, string]>();
  const listener = (req: Request): Response => {
    const { socket, response } = Deno.upgradeWebSocket(req);
    socket.onclose = ({ code, reason }): void => heard.resolve([code, reason]);
    return response;
  };
  await whole(listener, async (url) => {
    const line = await dial(`${url}/x`);
    line.socket.close(3001, "hung up");
    assert.deepEqual(await heard.promise, [3001, "hung up"]);
    await line.closed;
  });
});

Deno.test("an AI that is away is an HTTP error, not a silent call", async () => {
  const gone = await serving(ai, (url) => Promise.resolve(url));
  const lines = await logged(() =>
    withEnv({ AI_UPSTREAM: gone }, () =>
      serving(serve, async (url) => {
        await assert.rejects(dial(`${url}/x`));
        const found = await body(await fetch(`${url}/x`), 502);
        assert.equal(found.error, "The AI handler does not answer.");
      }))
  );
  assert.equal(lines.match(/upstream.away/g)?.length, 2);
});

Deno.test("what the AI says before it ends at once is heard, and how it ended", async () => {
  const brief = (req: Request): Response => {
    const { socket, response } = Deno.upgradeWebSocket(req);
    socket.onopen = (): void => {
      for (let n = 0; n < 20; n++) socket.send(`${n}`);
      socket.close(3003, "no");
    };
    return response;
  };
  await whole(brief, async (url) => {
    const line = await dial(`${url}/x`);
    for (let n = 0; n < 20; n++) assert.equal(await line.next(), `${n}`);
    const { code, reason } = await line.closed;
    assert.deepEqual([code, reason], [3003, "no"]);
  });
});

Deno.test("an upgrade that is none leaves no line to the AI open", async () => {
  const closed = Promise.withResolvers<void>();
  const listener = (req: Request): Response => {
    const { socket, response } = Deno.upgradeWebSocket(req);
    socket.onclose = (): void => closed.resolve();
    return response;
  };
  await logged(() =>
    whole(listener, async (url) => {
      const { hostname, port } = new URL(url);
      using connection = await Deno.connect({ hostname, port: Number(port) });
      const asking =
        `GET /x HTTP/1.1\r\nHost: ${hostname}:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`;
      await connection.write(new TextEncoder().encode(asking));
      const heard = new Uint8Array(100);
      await connection.read(heard);
      assert.match(new TextDecoder().decode(heard), /^HTTP\/1.1 502 /);
      await closed.promise;
    })
  );
});

Deno.test("a caller who does not read is cut off before he fills the memory", async () => {
  const closed = Promise.withResolvers<number>();
  const flood = (req: Request): Response => {
    const { socket, response } = Deno.upgradeWebSocket(req);
    socket.onclose = ({ code }): void => closed.resolve(code);
    socket.onopen = (): void => {
      for (let n = 0; n < 400; n++) socket.send(new Uint8Array(65536));
    };
    return response;
  };
  const lines = await logged(() =>
    whole(flood, async (url) => {
      const { hostname, port } = new URL(url);
      using connection = await Deno.connect({ hostname, port: Number(port) });
      const asking = `GET /x HTTP/1.1\r\nHost: ${hostname}:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
      await connection.write(new TextEncoder().encode(asking));
      assert.equal(await closed.promise, 4013);
    })
  );
  assert.equal(lines.match(/upstream.behind/g)?.length, 1);
});

Deno.test("an AI that refuses the upgrade is refused to the caller", async () => {
  await logged(() => whole(() => new Response("no", { status: 426 }), (url) => assert.rejects(dial(`${url}/x`))));
});

Deno.test("other requests are passed on with method, path, query, body, headers; answers as they are", async () => {
  await whole(ai, async (url) => {
    const response = await fetch(`${url}/hook/1?a=b`, { method: "PUT", body: "text", headers: { "x-own": "mine" } });
    assert.equal(await response.text(), "PUT /hook/1?a=b text mine");
    assert.equal(response.status, 202);
    assert.equal(response.headers.get("x-answer"), "yes");
    assert.equal(response.headers.get("x-hop"), null);
    const moved = await fetch(`${url}/moved`, { redirect: "manual" });
    assert.equal(moved.status, 302);
    await moved.body?.cancel();
  });
});

Deno.test("AI_UPSTREAM may have a path and be written wss://", async () => {
  await serving(
    ai,
    (there) =>
      withEnv({ AI_UPSTREAM: `${there.replace("http", "ws")}/base/` }, () =>
        serving(serve, async (url) => {
          assert.match(await (await fetch(`${url}/a`)).text(), /^GET \/base\/a /);
          const line = await dial(`${url}/a`);
          assert.equal(await line.next(), "hello at /base/a");
          line.socket.close();
          await line.closed;
        })),
  );
});

Deno.test("/batch-call is ours under every name that it has", async () => {
  await whole(ai, async (url) => {
    for (const path of ["/batch-call", "/batch-call-v2", "/batch-call/", "/functions/v1/batch-call"]) {
      await body(await fetch(`${url}${path}`), 405);
    }
    const other = await fetch(`${url}/batch-call-v3`);
    assert.equal(other.status, 202);
    await other.body?.cancel();
    const options = await fetch(`${url}/anything`, { method: "OPTIONS" });
    assert.equal(options.status, 200);
    assert.equal(options.headers.get("access-control-allow-origin"), "*");
    assert.equal(await options.text(), "");
  });
});

Deno.test("without AI_UPSTREAM there is nothing else", async () => {
  await withEnv({}, () =>
    serving(serve, async (url) => {
      await body(await fetch(`${url}/x`), 404);
      await assert.rejects(dial(`${url}/x`));
    }));
});

Deno.test("what was passed on once is not passed on again, under whatever name it comes back", async () => {
  await logged(() =>
    whole(ai, async (url) => {
      await body(await fetch(`${url}/x`, { headers: { "x-batch-call-via": "1" } }), 508);
    })
  );
});

Deno.test("an AI_UPSTREAM that leads back here does not go round", async () => {
  await logged(() =>
    withEnv({}, () =>
      serving(serve, async (url) => {
        Deno.env.set("AI_UPSTREAM", url);
        await body(await fetch(`${url}/x`), 508);
        await assert.rejects(dial(`${url}/x`));
      }))
  );
});
