//! A client that starts its server itself and speaks with it over two pipes.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{Receiver, sync_channel};

use serde_json::{Value, json};

use crate::support::PATIENCE;
use crate::support::rig::{Plan, Rig};
use crate::support::session::{initialize, request, text_of};

pub(crate) struct Client {
    pub(crate) rig: Rig,
    input: Option<ChildStdin>,
    lines: Option<Receiver<String>>,
    /// Came while something else was waited for.
    aside: VecDeque<Value>,
    /// The result of `initialize`.
    pub(crate) welcome: Value,
    next_id: u64,
}

impl Client {
    /// Starts a gateway of its own and says nothing.
    pub(crate) fn start(plan: Plan) -> Client {
        Client::piped(plan.arg("--transport").arg("stdio"))
    }

    /// Starts what stands between it and a gateway that runs.
    pub(crate) fn proxy(url: &str, args: &[&str]) -> Client {
        let plan = Plan::new(json!({})).arg("proxy").arg("--url").arg(url);
        Client::piped(args.iter().fold(plan, |plan, arg| plan.arg(arg)))
    }

    fn piped(plan: Plan) -> Client {
        let (rig, input, output) = plan.start_piped();
        Client {
            rig,
            input: Some(input),
            lines: Some(read(output)),
            aside: VecDeque::new(),
            welcome: Value::Null,
            next_id: 100,
        }
    }

    #[track_caller]
    pub(crate) fn open(plan: Plan, revision: &str, capabilities: Value) -> Client {
        let mut client = Client::start(plan);
        client.open_session(revision, capabilities);
        client
    }

    #[track_caller]
    pub(crate) fn open_session(&mut self, revision: &str, capabilities: Value) {
        self.send(&initialize(revision, &capabilities));
        let answer = self.answer(&json!(1));
        self.welcome = answer["result"].clone();
        assert!(self.welcome.is_object(), "{answer}");
        self.notify("notifications/initialized", json!({}));
    }

    pub(crate) fn send(&mut self, line: &str) {
        self.send_bytes(format!("{line}\n").as_bytes());
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// The same to a program that may have ended already.
    pub(crate) fn send_if_open(&mut self, line: &str) {
        let bytes = format!("{line}\n");
        // Its end is looked at elsewhere.
        let _ = self.input.as_mut().unwrap().write_all(bytes.as_bytes());
    }

    /// Ends what we say; what the program says is still read.
    pub(crate) fn end_input(&mut self) {
        self.input = None;
    }

    /// Reads no more.
    pub(crate) fn end_output(&mut self) {
        self.lines = None;
    }

    pub(crate) fn notify(&mut self, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string());
    }

    pub(crate) fn reply(&mut self, id: &Value, result: Value) {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
    }

    /// The next message; nothing at the end.
    #[track_caller]
    pub(crate) fn try_next(&mut self) -> Option<Value> {
        if let Some(message) = self.aside.pop_front() {
            return Some(message);
        }
        match self.lines.as_ref().unwrap().recv_timeout(PATIENCE) {
            Ok(line) => Some(serde_json::from_str(&line).expect(&line)),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => None,
            Err(_) => panic!("the program is silent"),
        }
    }

    #[track_caller]
    pub(crate) fn next(&mut self) -> Value {
        self.try_next().expect("the output has ended")
    }

    /// The next message that `fits`; others wait for their turn.
    #[track_caller]
    pub(crate) fn find(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.aside.iter().position(&fits) {
            return self.aside.remove(at).unwrap();
        }
        let mut aside = std::mem::take(&mut self.aside);
        loop {
            let message = self.next();
            if fits(&message) {
                self.aside = aside;
                return message;
            }
            aside.push_back(message);
        }
    }

    #[track_caller]
    pub(crate) fn answer(&mut self, id: &Value) -> Value {
        self.find(|message| message.get("method").is_none() && message["id"] == *id)
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, method: &str) -> Value {
        self.find(|message| message["method"] == method)
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        self.next_id += 1;
        let id = json!(self.next_id);
        self.send(&request(&id, method, &params));
        self.answer(&id)
    }

    #[track_caller]
    pub(crate) fn get(&mut self, method: &str, params: Value) -> Value {
        let answer = self.ask(method, params);
        assert!(answer["result"].is_object(), "{method}: {answer}");
        answer["result"].clone()
    }

    #[track_caller]
    pub(crate) fn text(&mut self, tool: &str, arguments: Value) -> String {
        text_of(&self.get("tools/call", json!({"name": tool, "arguments": arguments})))
    }

    /// Waits for the end of the program, which must be a good one and leave nothing.
    #[track_caller]
    pub(crate) fn ended(mut self) {
        assert_eq!(
            self.rig.exit_code(PATIENCE),
            Some(0),
            "{}",
            self.rig.stderr()
        );
        let left = self.rig.bearers();
        assert!(left.is_empty(), "left behind: {left:?}");
    }

    /// Leaves as clients do, by closing the input.
    #[track_caller]
    pub(crate) fn leave(mut self) {
        self.end_input();
        while self.try_next().is_some() {}
        self.ended();
    }
}

/// A thread that reads while the test writes; the little that it reads ahead is bounded.
fn read(output: ChildStdout) -> Receiver<String> {
    let (sender, lines) = sync_channel(1);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            if sender.send(line.unwrap()).is_err() {
                return;
            }
        }
    });
    lines
}
