//! Which era a server speaks: read off its answer to `server/discover`, and remembered for its
//! next start. Values and one small lock; who asks and waits is in `probe`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::remote::RemoteSpec;
use crate::config::server::{ProcessSpec, ServerConfig};
use crate::mcp::era::{Era, is_stateless};
use crate::mcp::error::UNSUPPORTED_VERSION;
use crate::mcp::meta;
use crate::upstream::link::Hello;
use crate::wire::json::{elements, string_value};
use crate::wire::members::Members;
use crate::wire::message::FROM_SERVER;

/// What a server is greeted as. The revision of the session era is negotiated anew each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Session,
    Stateless,
    /// Over HTTP: the session era, by the transport of its first revision.
    Sse,
}

impl Verdict {
    pub fn of(era: Era) -> Verdict {
        match era {
            Era::Session(_) => Verdict::Session,
            Era::Stateless => Verdict::Stateless,
        }
    }
}

/// The stateless server that a result of `server/discover` describes; `None` when it is no such
/// result, or offers only versions that we do not speak.
pub fn stateless_hello(result: &str) -> Option<Hello> {
    let members = Members::parse(result, 0, FROM_SERVER).ok()?;
    if !lists_stateless(members.get("supportedVersions")?) {
        return None;
    }
    let object = |raw: &&str| raw.starts_with('{');
    let capabilities = members.get("capabilities").filter(object);
    let inner = members.get("_meta").filter(object);
    let inner = inner.and_then(|raw| Members::parse(raw, 1, FROM_SERVER).ok());
    let info = inner.and_then(|inner| inner.get(meta::SERVER_INFO));
    let info = info.or(members.get("serverInfo")).filter(object);
    Some(Hello {
        era: Era::Stateless,
        capabilities: capabilities.unwrap_or("{}").to_owned(),
        instructions: members.string("instructions").map(|text| text.into_owned()),
        server_info: info.unwrap_or("{}").to_owned(),
    })
}

/// Whether an error object says that the server is stateless although it did not like the
/// request: "unsupported version", and among the supported ones is ours.
pub fn is_stateless_error(error: &str) -> bool {
    let supported = || {
        let members = Members::parse(error, 0, FROM_SERVER).ok()?;
        if members.get("code")?.parse() != Ok(UNSUPPORTED_VERSION) {
            return None;
        }
        let data = Members::parse(members.get("data")?, 1, FROM_SERVER).ok()?;
        data.get("supported")
    };
    supported().is_some_and(lists_stateless)
}

fn lists_stateless(versions: &str) -> bool {
    let versions = elements(versions, FROM_SERVER).unwrap_or_default();
    let mut names = versions.into_iter().filter_map(string_value);
    names.any(|name| is_stateless(&name))
}

/// What is known of one server from its earlier starts. It holds for what was started then: a
/// changed command is another server.
#[derive(Default)]
pub struct Memory(Mutex<Option<(u64, Verdict)>>);

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Option<(u64, Verdict)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn recall(&self, started: Started<'_>) -> Option<Verdict> {
        let known = *self.lock();
        known.and_then(|(key, verdict)| (key == started.key()).then_some(verdict))
    }

    pub fn learn(&self, started: Started<'_>, verdict: Verdict) {
        *self.lock() = Some((started.key(), verdict));
    }

    /// A start failed: the next one finds out again.
    pub fn forget(&self) {
        *self.lock() = None;
    }
}

/// What was started, or reached.
#[derive(Clone, Copy)]
pub enum Started<'a> {
    Process(&'a ProcessSpec),
    Remote(&'a RemoteSpec),
}

impl<'a> Started<'a> {
    pub fn of(config: &'a ServerConfig) -> Option<Started<'a>> {
        let remote = config.remote.as_ref().map(Started::Remote);
        config.process.as_ref().map(Started::Process).or(remote)
    }

    /// Stays in memory: the values of variables and headers may be secrets.
    fn key(self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let secrets = match self {
            Started::Process(spec) => {
                (&spec.program, &spec.args, &spec.cwd).hash(&mut hasher);
                &spec.env
            }
            Started::Remote(spec) => {
                spec.url.hash(&mut hasher);
                &spec.headers
            }
        };
        for (name, value) in secrets {
            (name, value.expose()).hash(&mut hasher);
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Started::Process;
    use super::{Memory, Verdict, is_stateless_error, stateless_hello};
    use crate::base::secret::Secret;
    use crate::config::server::ProcessSpec;
    use crate::mcp::era::Era;

    #[test]
    fn reads_results_of_discover() {
        let result = r#"{"resultType":"complete","supportedVersions":["2025-11-25","2026-07-28"],
            "capabilities":{"tools":{}},"instructions":"x","ttlMs":0,"cacheScope":"public",
            "_meta":{"io.modelcontextprotocol/serverInfo":{"name":"n"}}}"#;
        let hello = stateless_hello(result).expect("a hello");
        assert_eq!(hello.era, Era::Stateless);
        assert_eq!(hello.capabilities, "{\"tools\":{}}");
        assert_eq!(hello.instructions.as_deref(), Some("x"));
        assert_eq!(hello.server_info, "{\"name\":\"n\"}");
        let plain = r#"{"supportedVersions":["2026-07-28"],"serverInfo":{"name":"m"}}"#;
        let hello = stateless_hello(plain).expect("a hello");
        assert_eq!(hello.server_info, "{\"name\":\"m\"}");
        assert_eq!(hello.capabilities, "{}");
    }

    #[test]
    fn other_results_are_of_no_stateless_server() {
        for result in [
            "{}",
            "[]",
            r#"{"supportedVersions":"2026-07-28"}"#,
            r#"{"supportedVersions":["2025-11-25"]}"#,
            r#"{"supportedVersions":["2027-01-01"],"capabilities":{}}"#,
            r#"{"protocolVersion":"2026-07-28","capabilities":{}}"#,
        ] {
            assert!(stateless_hello(result).is_none(), "{result}");
        }
    }

    #[test]
    fn only_one_error_speaks_for_a_stateless_server() {
        let error = |code: i32, data: &str| format!("{{\"code\":{code},\"data\":{data}}}");
        let ours = r#"{"supported":["2027-01-01","2026-07-28"],"requested":"2026-07-28"}"#;
        assert!(is_stateless_error(&error(-32022, ours)));
        let old = r#"{"supported":["2025-11-25","2024-11-05"]}"#;
        for (code, data) in [
            (-32601, ours),
            (-32602, ours),
            (-32022, old),
            (-32022, "null"),
            (-32022, "{}"),
            (0, "1"),
        ] {
            assert!(!is_stateless_error(&error(code, data)), "{code} {data}");
        }
        assert!(!is_stateless_error("7"));
    }

    #[test]
    fn remembers_for_the_same_command_only() {
        let memory = Memory::default();
        let spec = |program: &str, value: &str| ProcessSpec {
            program: program.to_owned(),
            args: vec!["a".to_owned()],
            env: vec![("V".to_owned(), Secret::new(value.to_owned()))],
            cwd: None,
        };
        assert_eq!(memory.recall(Process(&spec("p", "1"))), None);
        memory.learn(Process(&spec("p", "1")), Verdict::Stateless);
        assert_eq!(
            memory.recall(Process(&spec("p", "1"))),
            Some(Verdict::Stateless)
        );
        assert_eq!(memory.recall(Process(&spec("q", "1"))), None);
        assert_eq!(memory.recall(Process(&spec("p", "2"))), None);
        memory.forget();
        assert_eq!(memory.recall(Process(&spec("p", "1"))), None);
    }
}
