//! Tasks that one subscription of a stateless client hears of (`notifications/tasks`), and what is
//! new of them. The router puts news in, the thread of the request writes them. Of each task only
//! the newest waits, because each tells all of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::base::limits;
use crate::front::desk::Desk;
use crate::front::tasks::{holder, locate, named};
use crate::mcp::task::has_extension;
use crate::model::principal::Principal;
use crate::model::task_id::TaskKey;
use crate::relay::bridge::task;
use crate::relay::view::View;
use crate::upstream::caller::Caller;
use crate::upstream::listening::Watched;
use crate::upstream::server::Server;

/// Counted at its server until this is dropped.
pub struct Task {
    /// As the client knows it.
    pub name: String,
    native: String,
    server: Arc<Server>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.server.unwatch_task(&self.native);
    }
}

/// The tasks of which their servers agree to tell. What nobody has is left out.
pub fn watch_all(names: &[String], view: &View, desk: &Desk) -> Vec<Task> {
    if names.is_empty() {
        return Vec::new();
    }
    let deadline = Instant::now() + limits::SUBSCRIBE_WAIT;
    let world = desk.hub.world();
    let wanted = names.iter().filter_map(|name| {
        let (server, id) = locate(&world, view, name)?;
        let link = server.link_for(&Caller::NOBODY).ok()?.link.clone();
        let hello = link.hello()?;
        let tells = hello.era.is_stateless() && has_extension(&hello.capabilities);
        if !tells || !server.watch_task(&id.native) {
            return None;
        }
        let (name, native) = (name.clone(), id.native);
        let task = Task {
            name,
            native,
            server,
        };
        Some((task, link))
    });
    // All are asked for before the first is waited for.
    let wanted: Vec<_> = wanted.collect();
    let agreed = wanted.into_iter().filter(|(task, link)| {
        link.listening().wait_for_task(&task.native, deadline) == Watched::Yes
    });
    agreed.map(|(task, _)| task).collect()
}

/// What is new, in the order in which it came.
#[derive(Default)]
pub struct News {
    waiting: VecDeque<(usize, Arc<str>)>,
    bytes: usize,
}

impl News {
    /// `text` is a server's notification about task `at`.
    pub fn put(&mut self, at: usize, text: &Arc<str>) {
        if let Some(old) = self.waiting.iter().position(|(known, _)| *known == at) {
            self.remove(old);
        }
        if self.bytes + text.len() > limits::SUBSCRIPTION_TASK_BYTES {
            log::debug!("news of a task left out bytes={}: no room", text.len());
            return;
        }
        self.bytes += text.len();
        self.waiting.push_back((at, text.clone()));
    }

    pub fn take(&mut self) -> Option<(usize, Arc<str>)> {
        self.remove(0)
    }

    fn remove(&mut self, place: usize) -> Option<(usize, Arc<str>)> {
        let news = self.waiting.remove(place)?;
        self.bytes -= news.1.len();
        Some(news)
    }
}

/// The place among `tasks` of one that a server tells of.
pub fn place_of(tasks: &[Task], server: usize, native: &str) -> Option<usize> {
    let is_it = |task: &Task| task.server.id.slot == server && task.native == native;
    tasks.iter().position(is_it)
}

/// A server's notification for the subscription `id` (raw JSON) of a client with `view`.
pub fn message(task: &Task, text: &str, id: &str, key: &TaskKey, view: &View) -> Option<Vec<u8>> {
    let server = task.server.name();
    let holder = holder(view.whose.as_deref().map(Principal::key), view.key());
    task::notice(text, id, |native| named(key, holder, server, native))
}

#[cfg(test)]
mod tests {
    use super::News;
    use crate::base::limits;
    use std::sync::Arc;

    #[test]
    fn the_newest_of_each_task_waits_within_a_bound() {
        let mut news = News::default();
        let text = |text: &str| -> Arc<str> { text.into() };
        for (at, said) in [(1, "a"), (2, "b"), (1, "c")] {
            news.put(at, &text(said));
        }
        news.put(3, &text(&"x".repeat(limits::SUBSCRIPTION_TASK_BYTES)));
        let mut taken = Vec::new();
        while let Some((at, said)) = news.take() {
            taken.push((at, said.to_string()));
        }
        assert_eq!(taken, [(2, "b".to_owned()), (1, "c".to_owned())]);
        assert_eq!(news.bytes, 0);
        news.put(3, &text(&"x".repeat(limits::SUBSCRIPTION_TASK_BYTES)));
        assert!(news.take().is_some());
    }
}
