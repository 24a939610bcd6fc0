//! Keeps one `subscriptions/listen` open at a stateless server: opens it, opens another one when
//! something else is wanted and lets go of the old one only then, comes back when it ends. Data
//! of the owner thread; it waits for nothing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::base::{limits, ordered};
use crate::mcp::error::{INVALID_PARAMS, METHOD_NOT_FOUND};
use crate::mcp::method::LISTEN;
use crate::upstream::call::{CallId, Mailbox, Reply, next_call_id};
use crate::upstream::link::Link;
use crate::upstream::listening::Filter;
use crate::wire::members::Members;
use crate::wire::message::{Envelope, FROM_SERVER, Kind};

pub struct Subscriber {
    mail: Mailbox,
    wanted: Filter,
    /// Tasks that are new in what is being asked for.
    trying: BTreeSet<String>,
    /// Those of which the server knows one that it will not hear of, instead of leaving it out.
    refused: BTreeSet<String>,
    /// The call that is not acknowledged, and until when it may be.
    opening: Option<(CallId, Instant)>,
    /// Since when one holds.
    since: Option<Instant>,
    /// No try before this.
    due: Option<Instant>,
    /// In a row.
    failures: u32,
    is_refused: bool,
    /// Changes may have been missed.
    is_stale: bool,
}

impl Default for Subscriber {
    /// For the current thread.
    fn default() -> Subscriber {
        Subscriber {
            mail: Mailbox::new(2),
            wanted: Filter::default(),
            trying: BTreeSet::new(),
            refused: BTreeSet::new(),
            opening: None,
            since: None,
            due: None,
            failures: 0,
            is_refused: false,
            is_stale: false,
        }
    }
}

impl Subscriber {
    pub fn want(&mut self, filter: Filter) {
        self.refused.retain(|task| filter.tasks.contains(task));
        self.wanted = filter;
        self.leave_out();
    }

    fn leave_out(&mut self) {
        let refused = &self.refused;
        self.wanted.tasks.retain(|task| !refused.contains(task));
    }

    /// The lists have been read: what changes until a subscription holds may be missed.
    pub fn lists_read(&mut self, link: &Link) {
        self.is_stale = link.listening().current().is_none();
    }

    /// The server tells nobody of changes.
    pub fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// When to look again, even if nothing happens.
    pub fn next(&self) -> Option<Instant> {
        match self.opening {
            Some((_, deadline)) => Some(deadline),
            None => self.due,
        }
    }

    /// One look at what came, and the next step. True when the lists should be read again.
    pub fn tend(&mut self, link: &Link, now: Instant) -> bool {
        let (acknowledged, superseded) = link.listening().take_acknowledged();
        if let Some(old) = superseded {
            link.cancel(old, "another subscription has taken its place");
        }
        if acknowledged {
            self.opening = None;
            self.since = Some(now);
        }
        let is_stale = acknowledged && std::mem::take(&mut self.is_stale);
        // After that: one that holds may have ended already.
        while let Ok(mail) = self.mail.receiver().try_recv() {
            if link.listening().calls().contains(&mail.call) {
                self.ended(link, mail.call, &mail.reply, now);
            }
        }
        if let Some((call, deadline)) = self.opening
            && deadline <= now
        {
            link.cancel(call, "not acknowledged in time");
            link.listening().closes(call);
            self.opening = None;
            self.failed(link, "not acknowledged", now);
        }
        self.step(link, now);
        is_stale
    }

    /// Opens or ends what the wishes of now ask for.
    fn step(&mut self, link: &Link, now: Instant) {
        let is_early = self.due.is_some_and(|due| now < due);
        if self.is_refused || self.opening.is_some() || is_early {
            return;
        }
        self.due = None;
        if self.wanted == link.listening().asked() {
            return;
        }
        if self.wanted.is_empty() {
            if let Some(call) = link.listening().current() {
                link.cancel(call, "nothing is wanted any more");
                link.listening().closes(call);
            }
            return;
        }
        let (call, filter) = (next_call_id(), self.wanted.clone());
        let held = link.listening().asked().tasks;
        self.trying = ordered::set(filter.tasks.difference(&held).cloned());
        let params = filter.params();
        // Known before it is sent: the acknowledgement may be there at once.
        link.listening().opens(call, filter);
        match link.request_as(call, LISTEN, &params, self.mail.sender()) {
            Ok(()) => self.opening = Some((call, now + limits::LISTEN_ACK)),
            Err(error) => {
                link.listening().closes(call);
                self.failed(link, &error.message, now);
            }
        }
    }

    fn ended(&mut self, link: &Link, call: CallId, reply: &Reply, now: Instant) {
        link.listening().closes(call);
        let was_opening = self.opening.take_if(|(opening, _)| *opening == call);
        let error = error_of(link, reply);
        let code = error.as_ref().map(|(code, _)| *code);
        if was_opening.is_some() && code == Some(INVALID_PARAMS) && !self.trying.is_empty() {
            // A task of one client must not cost the others their news.
            self.refused.extend(std::mem::take(&mut self.trying));
            return self.leave_out();
        }
        if code == Some(METHOD_NOT_FOUND) {
            log::info!("no news of changes server={:?}: it has none", link.server());
            self.is_refused = true;
            return link.listening().turn_off();
        }
        let held = self.since.take().map(|since| now.duration_since(since));
        if held.is_some_and(|held| held >= limits::RESTART_RESET) {
            self.failures = 0;
        }
        let why = error.map_or("it ended".to_owned(), |(_, message)| message);
        self.failed(link, &why, now);
    }

    fn failed(&mut self, link: &Link, why: &str, now: Instant) {
        let doublings = self.failures.min(16);
        let delay: Duration = limits::RELIST_FIRST * (1 << doublings);
        let delay = delay.min(limits::RELIST_CEILING);
        self.failures += 1;
        self.due = Some(now + delay);
        self.is_stale = true;
        if self.failures < 5 || self.failures.is_power_of_two() {
            let (server, delay_s) = (link.server(), delay.as_secs());
            log::info!("news of changes lost server={server:?} next_try_s={delay_s}: {why}");
        }
    }
}

/// Code and message of an answer that is an error.
fn error_of(link: &Link, reply: &Reply) -> Option<(i32, String)> {
    let Reply::Answer(answer) = reply else {
        return match reply {
            Reply::Failed(error) => Some((error.code, error.message.clone())),
            _ => None,
        };
    };
    let envelope = Envelope::from_bytes(&answer.line, FROM_SERVER).ok()?;
    let Kind::Error { error, .. } = envelope.kind else {
        return None;
    };
    let members = Members::parse(error, 1, FROM_SERVER).ok()?;
    let message = members.string("message").unwrap_or_default();
    let message: String = link.hide(&message).chars().take(200).collect();
    Some((members.get("code")?.parse().ok()?, message))
}

#[cfg(test)]
mod tests {
    use super::Subscriber;
    use crate::base::limits;
    use crate::journal::metrics::outcome::Outcome;
    use crate::mcp::era::Era;
    use crate::upstream::call::{Answer, CallId};
    use crate::upstream::link::{Hello, Link};
    use crate::upstream::listening::Filter;
    use crate::upstream::outlet::Outlet;
    use std::io::{BufRead, BufReader, PipeReader};
    use std::os::fd::OwnedFd;
    use std::time::Instant;

    /// A link to nobody, and what is said on it.
    struct Wire {
        link: Link,
        lines: BufReader<PipeReader>,
    }

    impl Wire {
        fn open() -> Wire {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            let link = Link::new("s", Outlet::new(OwnedFd::from(writer)));
            link.set_hello(Hello {
                era: Era::Stateless,
                capabilities: "{}".to_owned(),
                instructions: None,
                server_info: "{}".to_owned(),
            });
            let lines = BufReader::new(reader);
            Wire { link, lines }
        }

        fn said(&mut self) -> serde_json::Value {
            let mut line = String::new();
            self.lines.read_line(&mut line).expect("a line");
            serde_json::from_str(&line).expect("valid JSON")
        }

        /// The next thing said is that something is listened for; its id.
        fn listens(&mut self) -> CallId {
            let said = self.said();
            assert_eq!(said["method"], "subscriptions/listen", "{said}");
            assert!(said["params"]["_meta"].is_object(), "{said}");
            said["id"].as_u64().expect("an id")
        }

        fn cancels(&mut self) -> CallId {
            let said = self.said();
            assert_eq!(said["method"], "notifications/cancelled", "{said}");
            said["params"]["requestId"].as_u64().expect("an id")
        }

        fn answers(&self, call: CallId, rest: &str) {
            let text = format!("{{\"jsonrpc\":\"2.0\",\"id\":{call},{rest}}}");
            let at = text.find(&call.to_string()).expect("the id");
            let payload = text.rfind(":{").expect("a payload") + 1;
            let answer = Answer {
                id: at..at + call.to_string().len(),
                payload: payload..text.len() - 1,
                line: text.into_bytes(),
                is_error: rest.contains("error"),
                outcome: Outcome::Success,
            };
            self.link.answered(call, answer);
        }
    }

    fn of_uri(uri: &str) -> Filter {
        Filter {
            uris: [uri.to_owned()].into(),
            ..Filter::default()
        }
    }

    #[test]
    fn lets_go_of_the_old_only_when_the_new_holds() {
        let (mut wire, mut subscriber) = (Wire::open(), Subscriber::default());
        let now = Instant::now();
        assert!(!subscriber.tend(&wire.link, now));
        assert!(
            wire.link.listening().calls().is_empty(),
            "nothing is wanted"
        );
        subscriber.want(of_uri("a"));
        subscriber.tend(&wire.link, now);
        let first = wire.listens();
        subscriber.want(of_uri("b"));
        subscriber.tend(&wire.link, now);
        assert_eq!(wire.link.listening().calls(), [first], "one at a time");
        assert!(wire.link.listening().acknowledge(first, of_uri("a")));
        subscriber.tend(&wire.link, now);
        let second = wire.listens();
        assert!(wire.link.listening().is_current(first));
        assert!(wire.link.listening().acknowledge(second, of_uri("b")));
        subscriber.tend(&wire.link, now);
        assert_eq!(wire.cancels(), first);
        subscriber.want(Filter::default());
        subscriber.tend(&wire.link, now);
        assert_eq!(wire.cancels(), second);
        assert_eq!(
            (wire.link.listening().calls(), subscriber.next()),
            (vec![], None)
        );
    }

    #[test]
    fn comes_back_later_and_takes_the_lists_for_stale() {
        let (mut wire, mut subscriber) = (Wire::open(), Subscriber::default());
        let mut now = Instant::now();
        subscriber.want(of_uri("a"));
        subscriber.tend(&wire.link, now);
        let first = wire.listens();
        assert!(wire.link.listening().acknowledge(first, of_uri("a")));
        subscriber.lists_read(&wire.link);
        assert!(!subscriber.tend(&wire.link, now), "nothing was missed");
        wire.answers(first, "\"result\":{}");
        subscriber.tend(&wire.link, now);
        assert_eq!(subscriber.next(), Some(now + limits::RELIST_FIRST));
        now += limits::RELIST_FIRST;
        subscriber.tend(&wire.link, now);
        // Not acknowledged: taken back, and tried again after a longer time.
        let second = wire.listens();
        assert_eq!(subscriber.next(), Some(now + limits::LISTEN_ACK));
        now += limits::LISTEN_ACK;
        subscriber.tend(&wire.link, now);
        assert_eq!(wire.cancels(), second);
        assert_eq!(subscriber.next(), Some(now + limits::RELIST_FIRST * 2));
        now += limits::RELIST_FIRST * 2;
        subscriber.tend(&wire.link, now);
        let third = wire.listens();
        assert!(wire.link.listening().acknowledge(third, of_uri("a")));
        assert!(
            subscriber.tend(&wire.link, now),
            "changes may have been missed"
        );
        assert!(!subscriber.tend(&wire.link, now), "once");
    }

    #[test]
    fn a_task_that_is_refused_costs_nobody_else_anything() {
        let (mut wire, mut subscriber) = (Wire::open(), Subscriber::default());
        let now = Instant::now();
        let wanted = |tasks: &[&str]| Filter {
            tasks: tasks.iter().map(|&task| task.to_owned()).collect(),
            ..of_uri("a")
        };
        subscriber.want(wanted(&["good"]));
        subscriber.tend(&wire.link, now);
        let first = wire.listens();
        assert!(wire.link.listening().acknowledge(first, wanted(&["good"])));
        subscriber.want(wanted(&["good", "gone"]));
        subscriber.tend(&wire.link, now);
        let second = wire.listens();
        wire.answers(second, "\"error\":{\"code\":-32602,\"message\":\"no\"}");
        subscriber.tend(&wire.link, now);
        assert_eq!(wire.link.listening().calls(), [first], "it holds");
        assert_eq!(subscriber.next(), None);
        subscriber.want(wanted(&["good", "gone", "new"]));
        subscriber.tend(&wire.link, now);
        let third = wire.listens();
        assert!(
            wire.link
                .listening()
                .acknowledge(third, wanted(&["good", "new"]))
        );
        assert_eq!(wire.link.listening().asked(), wanted(&["good", "new"]));
    }

    #[test]
    fn leaves_a_server_alone_that_knows_no_subscriptions() {
        let (mut wire, mut subscriber) = (Wire::open(), Subscriber::default());
        let now = Instant::now();
        subscriber.want(of_uri("a"));
        subscriber.tend(&wire.link, now);
        let call = wire.listens();
        wire.answers(call, "\"error\":{\"code\":-32601,\"message\":\"no\"}");
        subscriber.tend(&wire.link, now);
        subscriber.want(of_uri("b"));
        subscriber.tend(&wire.link, now + limits::RELIST_CEILING);
        assert!(subscriber.is_refused() && subscriber.next().is_none());
        assert!(wire.link.listening().calls().is_empty());
    }
}
