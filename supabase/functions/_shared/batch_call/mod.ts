/**
 * POST /batch-call: fills `call_queue` where the app used to call the carrier.
 *
 * A handler that is there already, as that of the host which answers `/batch-call` today, mounts it in two lines:
 *
 *     import { handleBatchCall } from "../_shared/batch_call/mod.ts";
 *     if (new URL(req.url).pathname === "/batch-call") return await handleBatchCall(req);
 *
 * `serve` is a whole host: it passes what is not ours to AI_UPSTREAM. Nothing is imported from outside this folder.
 */

export { handleBatchCall } from "./handler.ts";
export { serve } from "./upstream.ts";
