//! Revocations in the store of several gateways: `PREFIX:revoked` holds them with their moments,
//! `PREFIX:revoked-version` is another text after each change, and a word on `PREFIX:news` says
//! that there was one. Text in, text out; what it means is known to `auth::revoked`.

use crate::auth::store::StoreError;
use crate::auth::store::shared::{away, script};
use crate::base::limits;
use crate::base::sys::random_bytes;
use crate::net::redis::{Answer, Redis};
use crate::wire::hex;

/// What is said on the channel of news when somebody revoked something.
pub const NEWS: &str = "revoked";

/// Of one revocation told twice the later moment counts; what is older than the first argument is
/// forgotten.
const TELL: &str = "\
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
for at = 4, #ARGV, 2 do
  local known = redis.call('ZSCORE', KEYS[1], ARGV[at])
  if not known or tonumber(known) < tonumber(ARGV[at + 1]) then
    redis.call('ZADD', KEYS[1], ARGV[at + 1], ARGV[at])
  end
end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('PUBLISH', KEYS[3], ARGV[3])
return 1";

/// The channel on which gateways tell each other what changed.
pub fn channel(redis: &Redis) -> String {
    format!("{}:news", redis.spec().prefix)
}

fn names(redis: &Redis) -> [String; 2] {
    let prefix = &redis.spec().prefix;
    [
        format!("{prefix}:revoked"),
        format!("{prefix}:revoked-version"),
    ]
}

/// Which state they are in; empty when the store knows of none.
pub fn version(redis: &Redis) -> Result<String, StoreError> {
    let [_, version] = names(redis);
    let answer = redis.ask(&[b"GET", version.as_bytes()]).map_err(away)?;
    Ok(answer.text().unwrap_or_default())
}

/// Adds these to what everybody knows, a text and its moment each.
pub fn tell(redis: &Redis, ends: &[(String, u64)], oldest_s: u64) -> Result<(), StoreError> {
    let [all, version] = names(redis);
    let channel = channel(redis);
    for page in ends.chunks(limits::SHARED_PAGE) {
        let mut random = [0; 8];
        random_bytes(&mut random);
        let mut words = vec![oldest_s.to_string(), hex::encode(&random), NEWS.to_owned()];
        for (text, moment_s) in page {
            words.extend([text.clone(), moment_s.to_string()]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        script(redis, TELL, &[&all, &version, &channel], &words)?;
    }
    Ok(())
}

/// Those that everybody knows, the newest first, and no more of them than are remembered.
pub fn read(redis: &Redis) -> Result<Vec<(String, u64)>, StoreError> {
    let [all, _] = names(redis);
    let mut ends = Vec::new();
    while ends.len() <= limits::REVOKED {
        let (from, to) = (ends.len(), ends.len() + limits::SHARED_PAGE - 1);
        let (from, to) = (from.to_string(), to.to_string());
        let words = ["ZREVRANGE", &all, &from, &to, "WITHSCORES"].map(str::as_bytes);
        let answer = redis.ask(&words).map_err(away)?;
        let mut words = answer.list().into_iter().filter_map(Answer::text);
        let before = ends.len();
        while let (Some(text), Some(moment)) = (words.next(), words.next()) {
            ends.push((text, moment.parse().unwrap_or(0)));
        }
        if ends.len() - before < limits::SHARED_PAGE {
            break;
        }
    }
    Ok(ends)
}
