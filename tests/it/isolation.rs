//! Many clients with equal ids and equal progress tokens: each gets its own, once.

use serde_json::{Map, Value, json};

use crate::support::rig::Rig;
use crate::support::servers::everything;
use crate::support::session::{Session, reporting_call, text_of, tool_call};

const SERVERS: usize = 8;
const CLIENTS: usize = 64;
const CALLS: usize = 100;
/// One call in so many reports progress.
const REPORTING: usize = 10;

/// All calls of one client, under the ids 0, 1, 2 ... that every other client uses as well.
fn work(session: &mut Session, client: usize) {
    for call in 0..CALLS {
        let server = (client + call) % SERVERS;
        let id = json!(call);
        if call % REPORTING == 0 {
            report(session, server, client, &id);
            continue;
        }
        let secret = format!("client {client} call {call}");
        let tool = format!("s{server}_1mcp_echo");
        let answers = session
            .post(tool_call(&id, &tool, &json!({"text": secret})))
            .messages();
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(answers[0]["id"], id);
        assert_eq!(text_of(&answers[0]["result"]), secret);
    }
}

fn report(session: &mut Session, server: usize, client: usize, id: &Value) {
    // So many steps that reports and answers of two clients are hardly ever the same.
    let steps = client % 7 + 1;
    let tool = format!("s{server}_1mcp_slow_progress");
    let call = reporting_call(id, &tool, &json!({"steps": steps, "ms": 0}), &json!(0));
    let mut answers = session.post(call).messages();
    let answer = answers.pop().unwrap();
    assert_eq!(&answer["id"], id);
    assert_eq!(text_of(&answer["result"]), format!("Took {steps} steps"));
    let told: Vec<_> = answers.iter().map(|told| told["params"].clone()).collect();
    assert!(
        told.iter().all(|told| told["progressToken"] == 0),
        "{told:?}"
    );
    assert!(
        told.iter().all(|told| told["total"] == steps),
        "foreign progress: {told:?}"
    );
    assert!(told.len() <= steps, "doubled progress: {told:?}");
}

#[test]
fn equal_ids_and_tokens_of_many_clients_are_never_mixed_up() {
    let servers: Map<String, Value> = (0..SERVERS)
        .map(|server| (format!("s{server}"), everything(&[])))
        .collect();
    let rig = Rig::start(servers.into());
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let mut session = rig.session();
            scope.spawn(move || work(&mut session, client));
        }
    });
    rig.stop();
}
