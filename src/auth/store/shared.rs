//! The store of several gateways: Redis or Valkey. Each operation is one command or one script,
//! which the store does in one step whoever else asks. Names: `PREFIX:v:SPACE:HASH` is a value,
//! `PREFIX:i:SPACE` says which there are and when each ends, by the clock of the store alone.

use std::time::Duration;

use crate::auth::store::{Entry, Space, StoreError};
use crate::base::limits;
use crate::net::redis::{Answer, Redis, Trouble};

/// 1 when it was put, 0 when one is there already, -1 when there is no room.
const PUT: &str = "\
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if redis.call('EXISTS', KEYS[1]) == 1 then
  if ARGV[5] == '1' then return 0 end
elseif redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[4]) then
  return -1
end
local life = tonumber(ARGV[3])
if life <= 0 then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 1
end
redis.call('SET', KEYS[1], ARGV[2], 'EX', life)
redis.call('ZADD', KEYS[2], now + life, ARGV[1])
return 1";

const TAKE: &str = "\
local value = redis.call('GET', KEYS[1])
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return value";

/// Which there are.
const NAMES: &str = "\
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', redis.call('TIME')[1])
return redis.call('ZRANGE', KEYS[1], 0, -1)";

/// Of one page of names; empty for what has gone since.
const VALUES: &str = "\
local found = {}
for at = 2, #ARGV do
  found[at - 1] = redis.call('GET', ARGV[1] .. ARGV[at]) or ''
end
return found";

/// How long to wait, 0 when a token was taken: the value says when the bucket is full again. All
/// in microseconds, which a number of these scripts holds exactly.
const PACE: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now) + ARGV[1]
local wait = full - now - ARGV[2]
if wait > 0 then return wait end
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
return 0";

/// Does one of the scripts with these keys and arguments.
pub(super) fn script(
    redis: &Redis,
    script: &str,
    keys: &[&str],
    arguments: &[&str],
) -> Result<Answer, StoreError> {
    let count = keys.len().to_string();
    let words = [&["EVAL", script, &count], keys, arguments].concat();
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    redis.ask(&words).map_err(away)
}

pub(super) fn away(trouble: Trouble) -> StoreError {
    StoreError::Away(trouble)
}

fn value_name(redis: &Redis, space: Space, name: &str) -> String {
    format!("{}:v:{}:{name}", redis.spec().prefix, space.name)
}

fn index_name(redis: &Redis, space: Space) -> String {
    format!("{}:i:{}", redis.spec().prefix, space.name)
}

pub(super) fn put(redis: &Redis, entry: &Entry<'_>, only_new: bool) -> Result<bool, StoreError> {
    let keys = [
        value_name(redis, entry.space, &entry.name),
        index_name(redis, entry.space),
    ];
    let life_s = entry.end_s.saturating_sub(entry.now_s).to_string();
    let limit = entry.space.limit.to_string();
    let arguments = [
        entry.name.as_str(),
        entry.value,
        &life_s,
        &limit,
        if only_new { "1" } else { "0" },
    ];
    match script(redis, PUT, &[&keys[0], &keys[1]], &arguments)? {
        Answer::Number(1) => Ok(true),
        Answer::Number(0) => Ok(false),
        _ => Err(StoreError::Full(entry.space.name)),
    }
}

pub(super) fn get(redis: &Redis, from: Space, name: &str) -> Result<Option<String>, StoreError> {
    let key = value_name(redis, from, name);
    let answer = redis.ask(&[b"GET", key.as_bytes()]).map_err(away)?;
    Ok(answer.text())
}

pub(super) fn take(redis: &Redis, from: Space, name: &str) -> Result<Option<String>, StoreError> {
    let keys = [value_name(redis, from, name), index_name(redis, from)];
    let answer = script(redis, TAKE, &[&keys[0], &keys[1]], &[name])?;
    Ok(answer.text())
}

pub(super) fn values(redis: &Redis, space: Space) -> Result<Vec<String>, StoreError> {
    let (index, stem) = (index_name(redis, space), value_name(redis, space, ""));
    // Names first: pages by number would skip some when others end in between.
    let names = script(redis, NAMES, &[&index], &[])?.list();
    let names: Vec<String> = names.into_iter().filter_map(Answer::text).collect();
    let mut values = Vec::new();
    for page in names.chunks(limits::SHARED_PAGE) {
        let words = std::iter::once(&stem).chain(page);
        let arguments: Vec<&str> = words.map(String::as_str).collect();
        let page = script(redis, VALUES, &[], &arguments)?.list();
        let page = page.into_iter().filter_map(Answer::text);
        values.extend(page.filter(|value| !value.is_empty()));
    }
    Ok(values)
}

pub(super) fn pace(
    redis: &Redis,
    name: &str,
    key: &str,
    times: [Duration; 2],
) -> Result<(), Duration> {
    let key = format!("{}:p:{name}:{key}", redis.spec().prefix);
    let [step, full] = times.map(|time| time.as_micros().to_string());
    match script(redis, PACE, &[&key], &[&step, &full]) {
        Ok(Answer::Number(wait)) if wait > 0 => Err(Duration::from_micros(wait.unsigned_abs())),
        _ => Ok(()),
    }
}
