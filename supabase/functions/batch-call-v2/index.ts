// For Supabase's edge runtime and, with AI_UPSTREAM, as the entry of a host that also serves the AI (Deno Deploy).
// Another handler mounts handleBatchCall of ../_shared/batch_call.ts instead.

import { serve } from "../_shared/upstream.ts";

Deno.serve(serve);
