// For Supabase's edge runtime and, with AI_UPSTREAM, for a host that also serves the AI (Deno Deploy). Where the AI's own
// handler stays in front, that one mounts handleBatchCall instead: see mod.ts.

import { serve } from "../_shared/batch_call/mod.ts";

Deno.serve(serve);
