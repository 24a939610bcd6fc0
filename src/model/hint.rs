//! How long and for whom a result may be kept, as a stateless server says it with `ttlMs` and
//! `cacheScope` (server/utilities/caching of 2026-07-28).

use crate::wire::members::Members;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheHint {
    pub ttl_ms: u64,
    /// Not to be shared between callers. Also when the server does not say.
    pub is_private: bool,
}

impl CacheHint {
    /// `None` when the result says nothing that can be read.
    pub fn read(result: &Members<'_>) -> Option<CacheHint> {
        Some(CacheHint {
            ttl_ms: result.get("ttlMs")?.parse().ok()?,
            is_private: result.string("cacheScope").as_deref() != Some("public"),
        })
    }

    /// As members of a result, with a comma between them.
    pub fn members(self) -> String {
        let scope = if self.is_private { "private" } else { "public" };
        format!("\"ttlMs\":{},\"cacheScope\":\"{scope}\"", self.ttl_ms)
    }

    /// What holds for two results put together.
    pub fn and(self, other: CacheHint) -> CacheHint {
        CacheHint {
            ttl_ms: self.ttl_ms.min(other.ttl_ms),
            is_private: self.is_private || other.is_private,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::CacheHint;
    use crate::wire::members::Members;
    use crate::wire::message::FROM_SERVER;

    fn read(text: &str) -> Option<(u64, bool)> {
        let members = Members::parse(text, 0, FROM_SERVER).expect("an object");
        CacheHint::read(&members).map(|hint| (hint.ttl_ms, hint.is_private))
    }

    #[test]
    fn reads_what_is_said_and_shares_nothing_else() {
        let public = r#"{"ttlMs":5,"cacheScope":"public"}"#;
        assert_eq!(read(public), Some((5, false)));
        let private = r#"{"ttlMs":0,"cacheScope":"private"}"#;
        assert_eq!(read(private), Some((0, true)));
        assert_eq!(read(r#"{"ttlMs":7,"cacheScope":1}"#), Some((7, true)));
        for text in [public, private] {
            let members = Members::parse(text, 0, FROM_SERVER).expect("an object");
            let told = CacheHint::read(&members).map(CacheHint::members);
            assert_eq!(
                told.map(|told| format!("{{{told}}}")).as_deref(),
                Some(text)
            );
        }
        for text in [
            "{}",
            r#"{"ttlMs":-1}"#,
            r#"{"ttlMs":"1"}"#,
            r#"{"ttlMs":1.5}"#,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn together_the_stricter_holds() {
        let hint = |ttl_ms, is_private| CacheHint { ttl_ms, is_private };
        assert_eq!(hint(5, false).and(hint(3, true)), hint(3, true));
        assert_eq!(hint(5, false).and(hint(9, false)), hint(5, false));
    }
}
