// What an app does with supabase-js, against the gateway named in the environment. Prints one JSON object.
// Run by test_gateway_js.py, with SUPABASE_URL, SUPABASE_KEY and SUPABASE_ANON_KEY.
import { createClient } from '@supabase/supabase-js'
import ws from 'ws'

const { SUPABASE_URL: url, SUPABASE_KEY: key, SUPABASE_ANON_KEY: anonKey } = process.env
const options = { realtime: { transport: ws }, auth: { persistSession: false, autoRefreshToken: false } }
const supabase = createClient(url, key, options)
const anon = createClient(url, anonKey, options)
const out = {}

/** Resolves with the next value given to `tell`. */
function mailbox() {
  const waiting = []
  const kept = []
  return {
    tell: (value) => (waiting.length ? waiting.shift()(value) : kept.push(value)),
    next: () => (kept.length ? Promise.resolve(kept.shift()) : new Promise((resolve) => waiting.push(resolve))),
  }
}

// Rows.
const people = () => supabase.from('people')
out.insert = (await people().insert({ name: 'ann', age: 30, about: { n: [1] } }).select('name, age, about').single()).data
out.bulk = (await people().insert([{ name: 'bob', age: 41 }, { name: 'cy', tags: ['x'] }], { count: 'exact' })).count
out.select = await people()
  .select('name, years:age', { count: 'exact' })
  .or('age.gt.35,name.eq.cy')
  .order('name', { ascending: false })
  .range(0, 0)
  .then(({ data, count }) => ({ data, count }))
out.maybe = (await people().select('name').eq('name', 'nobody').maybeSingle()).data
out.update = (await people().update({ age: 31 }).eq('name', 'ann').select('age')).data
out.upsert = (await people().upsert({ name: 'ann', age: 32 }, { onConflict: 'name' }).select('age')).data
out.ignored = (await people().upsert({ name: 'ann' }, { onConflict: 'name', ignoreDuplicates: true }).select()).data
out.delete = (await people().delete().in('name', ['bob', 'cy'])).status
out.rpc = (await supabase.rpc('sum_v1', { p_a: 1 })).data
out.rpcGet = (await supabase.rpc('sum_v1', { p_a: 2 }, { get: true })).data
out.errors = [
  (await supabase.from('nope').select()).error.code,
  (await supabase.rpc('nope')).error.code,
  (await people().insert({ name: 'ann' })).error.code,
  (await people().select().eq('name', 'nobody').single()).error.code,
  (await people().delete().neq('name', '').is('age', null)).status,
  (await anon.from('secrets').select()).status,
]

// Realtime: one private channel with both bindings.
const changes = mailbox()
const rings = mailbox()
const systems = mailbox()
const joined = mailbox()
const channel = supabase
  .channel('call_queue', { config: { private: true } })
  .on('postgres_changes', { event: 'INSERT', schema: 'public', table: 'call_queue' }, changes.tell)
  .on('broadcast', { event: 'rows' }, rings.tell)
  .on('system', {}, systems.tell)
  .subscribe(joined.tell)
out.joined = await joined.next()
out.system = (await systems.next()).message
await supabase.from('call_queue').insert({ phone: '+60123456700' })
const change = await changes.next()
out.change = { type: change.eventType, table: change.table, phone: change.new.phone, errors: change.errors }
await supabase.rpc('ring_v1', { p_private: true })
out.ring = (await rings.next()).event

// Clients among themselves: over the websocket, and over HTTP before joining.
const heard = mailbox()
const joinedToo = mailbox()
anon.channel('room').on('broadcast', { event: 'hello' }, heard.tell).subscribe(joinedToo.tell)
out.anonJoined = await joinedToo.next()
const speaking = supabase.channel('room', { config: { broadcast: { ack: true } } })
out.sentOverHttp = await speaking.httpSend('hello', { n: 1 })
out.heardOverHttp = (await heard.next()).payload
const joinedThird = mailbox()
speaking.subscribe(joinedThird.tell)
await joinedThird.next()
out.sent = await speaking.send({ type: 'broadcast', event: 'hello', payload: { n: 2 } })
out.heard = (await heard.next()).payload
const refused = mailbox()
anon.channel('call_queue', { config: { private: true } }).subscribe((status, error) => refused.tell([status, `${error}`]))
out.refused = await refused.next()

console.log(JSON.stringify(out))
await Promise.all([supabase.removeAllChannels(), anon.removeAllChannels()])
process.exit(0)
