//! Looks after one server that is up: asks it for a sign of life when that is due, and says how
//! it is. What a child's silence means is decided in `liveness`; a server over HTTP judges its
//! own exchanges (`remote`). Runs on the owner thread.

use std::time::{Duration, Instant};

use crate::base::time::rounded;
use crate::mcp::list::ListKind;
use crate::mcp::method::DISCOVER;
use crate::upstream::call::{CallId, Mailbox, next_call_id};
use crate::upstream::link::Link;
use crate::upstream::liveness::{Liveness, Question, Seen, Step};
use crate::upstream::process::Process;

/// What the owner shows.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    Nothing,
    /// Its last exchange failed, for this reason.
    Ill(String),
    Well,
    Dead(String),
}

pub struct Checkup {
    liveness: Liveness,
    /// The question that waits for its answer.
    asked: Option<(CallId, Mailbox)>,
    /// Of a server over HTTP: what is shown.
    shown: Option<String>,
}

impl Checkup {
    pub fn new(request_timeout: Duration) -> Checkup {
        Checkup {
            liveness: Liveness::new(request_timeout, Instant::now()),
            asked: None,
            shown: None,
        }
    }

    pub fn greeted(&mut self, link: &Link) {
        let has_list = list_of(link).is_some();
        self.liveness.greeted(link.is_stateless(), has_list);
    }

    /// A request of the owner itself got no answer in its time.
    pub fn doubt(&mut self, link: &Link) {
        match link.remote() {
            Some(remote) => remote.doubt(),
            None => self.liveness.doubt(),
        }
    }

    /// `process`: of a child.
    pub fn look(&mut self, link: &Link, process: Option<&mut Process>, now: Instant) -> Finding {
        match process {
            Some(process) => self.look_at_child(link, process, now),
            None => self.look_at_remote(link),
        }
    }

    fn look_at_child(&mut self, link: &Link, process: &mut Process, now: Instant) -> Finding {
        // Costs a look at the process table.
        let ticks = match self.liveness.is_doubtful() {
            true => process.ticks(),
            false => 0,
        };
        let seen = Seen {
            ticks,
            lines: link.lines(),
            oldest_call: link.oldest_call(),
            timed_out: link.take_unanswered(),
            answered: self.is_answered(),
        };
        let step = self.liveness.look(seen, next_call_id(), now);
        if !self.liveness.is_asking() || step != Step::Nothing {
            self.let_go(link);
        }
        match step {
            Step::Nothing => Finding::Nothing,
            Step::Ask(question) => {
                self.ask(question, link);
                Finding::Nothing
            }
            Step::Doubt => Finding::Ill(self.silence()),
            Step::Well => Finding::Well,
            Step::Dead => Finding::Dead(self.silence()),
        }
    }

    fn silence(&self) -> String {
        let patience = rounded(self.liveness.answer());
        format!("does not answer: it gave no sign of life within {patience} when asked for one")
    }

    fn is_answered(&self) -> bool {
        let asked = self.asked.as_ref();
        asked.is_some_and(|(call, mail)| mail.receiver().try_iter().any(|one| one.call == *call))
    }

    fn ask(&mut self, question: Question, link: &Link) {
        let method = match (question, list_of(link)) {
            (Question::List, Some(kind)) => kind.method(),
            _ if link.is_stateless() => DISCOVER,
            _ => "ping",
        };
        let mail = Mailbox::new(1);
        match link.request(method, "{}", mail.sender()) {
            Ok(call) => self.asked = Some((call, mail)),
            // It takes nothing, and so it will say nothing.
            Err(error) => {
                log::debug!("not asked server={:?}: {}", link.server(), error.message);
            }
        }
    }

    /// Without a word to the server: what does not answer need not hear more.
    fn let_go(&mut self, link: &Link) {
        if let Some((call, _)) = self.asked.take() {
            link.forget(call);
        }
    }

    /// Nobody reads the answer: that there is none is what counts, and the exchange sees that.
    fn look_at_remote(&mut self, link: &Link) -> Finding {
        let Some(remote) = link.remote() else {
            return Finding::Nothing;
        };
        if link.take_unanswered() {
            remote.doubt();
        }
        if let Some(method) = remote.wanted_look(link.client_calls() > 0) {
            let mail = Mailbox::new(1);
            if let Err(error) = link.request(method, "{}", mail.sender()) {
                remote.look_is_over();
                log::debug!("no look server={:?}: {}", link.server(), error.message);
            }
        }
        let ill = remote.ill();
        if ill == self.shown {
            return Finding::Nothing;
        }
        self.shown.clone_from(&ill);
        ill.map_or(Finding::Well, Finding::Ill)
    }
}

/// A list that it said it has.
fn list_of(link: &Link) -> Option<ListKind> {
    let hello = link.hello()?;
    let mut kinds = ListKind::ALL.into_iter();
    kinds.find(|kind| hello.declares(kind.capability()))
}
