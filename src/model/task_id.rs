//! The id under which a client knows a task of a server: sealed text that says where the task
//! is. The same task has the same id for the same holder wherever it is told (answers, lists,
//! notifications), so nothing needs to be kept; for another holder it is another id, and worth
//! nothing. A value; the key belongs to the caller. Deliberately absent: expiry, which is the
//! server's.

use crate::base::limits;
use crate::model::place::Here;
use crate::model::rotating::Master;
use crate::model::steady::SteadyKey;

const FORMAT: u8 = 1;

/// Where a task is, and what its server calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskId {
    pub server: String,
    /// The process that has it; 0 for whichever serves everybody.
    pub process: u64,
    pub native: String,
}

/// Who may use an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder<'a> {
    Session(&'a str),
    /// `principal` is empty while nobody is known by name.
    Stateless {
        principal: &'a str,
        view: u64,
    },
}

impl Holder<'_> {
    fn bound(self) -> Vec<u8> {
        match self {
            Holder::Session(id) => [b"session\0", id.as_bytes()].concat(),
            Holder::Stateless { principal, view } => [
                b"stateless\0",
                &view.to_le_bytes()[..],
                principal.as_bytes(),
            ]
            .concat(),
        }
    }
}

/// The same masters in every replica, and after a restart, make ids good there too.
#[derive(Debug)]
pub struct TaskKey {
    key: SteadyKey,
    /// One of several replicas says so in each id of a stateless client.
    here: Option<Here>,
}

impl TaskKey {
    pub fn new(masters: &[Master], here: Option<Here>) -> TaskKey {
        let key = SteadyKey::new("task id", masters);
        TaskKey { key, here }
    }

    pub fn rotate(&self, masters: &[Master]) {
        self.key.rotate(masters);
    }
}

impl TaskId {
    /// Text of `[A-Za-z0-9_.-]`; `None` when the server's own id is longer than we carry.
    pub fn seal(&self, key: &TaskKey, holder: Holder<'_>) -> Option<String> {
        if self.native.len() > limits::TASK_ID_BYTES {
            return None;
        }
        let mut plain = vec![FORMAT, u8::try_from(self.server.len()).ok()?];
        plain.extend_from_slice(&self.process.to_le_bytes());
        plain.extend_from_slice(self.server.as_bytes());
        plain.extend_from_slice(self.native.as_bytes());
        let sealed = key.key.seal(&holder.bound(), &plain)?;
        match (&key.here, holder) {
            (Some(here), Holder::Stateless { .. }) => here.put_behind(&sealed),
            _ => Some(sealed),
        }
    }

    /// `None`: not one of ours, changed, or another holder's.
    pub fn open(text: &str, key: &TaskKey, holder: Holder<'_>) -> Option<TaskId> {
        if text.len() > limits::TASK_ID_SEALED_BYTES {
            return None;
        }
        let text = match (&key.here, holder) {
            (Some(here), Holder::Stateless { .. }) => here.key.split(text)?.0,
            _ => text,
        };
        let plain = key.key.open(&holder.bound(), text)?;
        let ([format, name_bytes], rest) = plain.split_first_chunk()?;
        let (process, rest) = rest.split_first_chunk()?;
        let (server, native) = rest.split_at_checked(usize::from(*name_bytes))?;
        // Sealed by us, but perhaps by another release.
        (*format == FORMAT).then_some(())?;
        Some(TaskId {
            server: str::from_utf8(server).ok()?.to_owned(),
            process: u64::from_le_bytes(*process),
            native: str::from_utf8(native).ok()?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Holder, TaskId, TaskKey};
    use crate::base::limits;

    fn key() -> TaskKey {
        TaskKey::new(&[[7; 32]], None)
    }

    fn id(native: &str) -> TaskId {
        TaskId {
            server: "github.com/x/y".to_owned(),
            process: 7,
            native: native.to_owned(),
        }
    }

    const ANYBODY: Holder<'_> = Holder::Stateless {
        principal: "",
        view: 1,
    };

    #[test]
    fn one_task_has_one_id_for_one_holder() {
        let holders = [
            ANYBODY,
            Holder::Stateless {
                principal: "",
                view: 2,
            },
            Holder::Stateless {
                principal: "a",
                view: 1,
            },
            Holder::Session("s"),
            Holder::Session("t"),
        ];
        for holder in holders {
            let text = id("t-1").seal(&key(), holder).expect("sealed");
            assert_eq!(id("t-1").seal(&key(), holder).as_ref(), Some(&text));
            assert_ne!(id("t-2").seal(&key(), holder).as_ref(), Some(&text));
            for other in holders {
                let opened = TaskId::open(&text, &key(), other);
                assert_eq!(opened, (other == holder).then(|| id("t-1")), "{other:?}");
            }
            let stranger = TaskKey::new(&[[8; 32]], None);
            assert_eq!(TaskId::open(&text, &stranger, holder), None);
        }
    }

    #[test]
    fn ids_of_any_length_fit_or_are_refused() {
        for native in ["", "ä", &"x".repeat(limits::TASK_ID_BYTES)] {
            let task = TaskId {
                server: "s".repeat(limits::SERVER_NAME_BYTES),
                ..id(native)
            };
            let text = task.seal(&key(), ANYBODY).expect("sealed");
            assert!(text.len() <= limits::TASK_ID_SEALED_BYTES, "{}", text.len());
            assert_eq!(TaskId::open(&text, &key(), ANYBODY), Some(task));
        }
        let long = id(&"x".repeat(limits::TASK_ID_BYTES + 1));
        assert_eq!(long.seal(&key(), ANYBODY), None);
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        for text in ["", "a", "tasks-conformance-nonexistent-12345", "ä", "\0"] {
            assert_eq!(TaskId::open(text, &key(), ANYBODY), None, "{text:?}");
        }
    }
}
