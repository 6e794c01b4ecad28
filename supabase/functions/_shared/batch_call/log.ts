/** Lines for whoever runs the function; never for the app's user, and never with a number, a name or a key. */

// deno-lint-ignore-file no-console -- This is the one place.

export function problem(event: string, facts: Record<string, unknown>): void {
  console.error(JSON.stringify({ level: "error", event, ...facts }));
}

const said = new Set<string>();

/** A warning, once in the life of this process. */
export function warnOnce(event: string, message: string): void {
  if (said.has(event)) return;
  said.add(event);
  console.warn(JSON.stringify({ level: "warning", event, message }));
}
