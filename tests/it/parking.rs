//! Questions of servers with sessions to clients without: what is asked, who may answer, and
//! what is left when nobody does.

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::rig::{Plan, Rig};
use crate::support::servers::{everything, with};
use crate::support::stateless::Client;

/// A server over stdio, and a client that can fill in forms.
fn asking(entry: &Value) -> (Rig, Client) {
    let rig = Rig::start(json!({ "ev": entry }));
    let client = Client::new(rig.port, "/mcp/ev").able(json!({"elicitation": {}}));
    (rig, client)
}

fn call(token: &str) -> Value {
    json!({"name": "ask_name", "arguments": {"token": token}})
}

/// The same request with answers to everything that was asked.
fn answered(request: &Value, asked: &Value, name: &str) -> Value {
    let keys = asked["inputRequests"]
        .as_object()
        .expect("questions")
        .keys();
    let form = |key: &String| {
        let answer = json!({"action": "accept", "content": {"name": name}});
        (key.clone(), answer)
    };
    let mut request = request.clone();
    request["inputResponses"] = keys.map(form).collect::<serde_json::Map<_, _>>().into();
    request["requestState"] = asked["requestState"].clone();
    request
}

fn ask(client: &Client, request: &Value) -> Value {
    let asked = client.get("tools/call", request);
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    asked
}

fn code(client: &Client, request: &Value) -> i64 {
    let answer = client.ask("tools/call", request);
    answer["error"]["code"].as_i64().unwrap_or_default()
}

#[test]
fn a_form_is_answered_once_and_by_the_request_it_belongs_to() {
    let (rig, client) = asking(&everything(&[]));
    let asked = ask(&client, &call("t1"));
    let mut of_other = answered(&call("t2"), &asked, "Eve");
    assert_eq!(code(&client, &of_other), -32602);
    of_other = answered(&call("t1"), &asked, "Eve");
    of_other["requestState"] = json!(format!("{}A", asked["requestState"].as_str().unwrap()));
    assert_eq!(code(&client, &of_other), -32602);
    let elsewhere = Client::new(rig.port, "/mcp").able(json!({"elicitation": {}}));
    let mut from_all = answered(&call("t1"), &asked, "Eve");
    from_all["name"] = json!("ev_1mcp_ask_name");
    assert_eq!(code(&elsewhere, &from_all), -32602);
    let good = answered(&call("t1"), &asked, "Ann");
    assert_eq!(
        client.get("tools/call", &good)["content"][0]["text"],
        "t1:Ann"
    );
    assert_eq!(code(&client, &good), -32602);
    rig.stop();
}

#[test]
fn forms_of_many_users_do_not_meet() {
    let (rig, client) = asking(&everything(&[]));
    // The first question tells the gateway that this server asks.
    let first = ask(&client, &call("first"));
    let names: Vec<String> = (0..6).map(|number| format!("u{number}")).collect();
    let asked: Vec<Value> = names.iter().map(|name| ask(&client, &call(name))).collect();
    for (name, asked) in names.iter().zip(&asked).rev() {
        let result = client.get("tools/call", &answered(&call(name), asked, name));
        assert_eq!(result["content"][0]["text"], format!("{name}:{name}"));
    }
    let result = client.get("tools/call", &answered(&call("first"), &first, "last"));
    assert_eq!(result["content"][0]["text"], "first:last");
    rig.stop();
}

#[test]
fn what_is_not_answered_is_asked_again() {
    let (rig, client) = asking(&everything(&[]));
    let asked = ask(&client, &call("t"));
    let mut empty = answered(&call("t"), &asked, "x");
    empty["inputResponses"] = json!({"other": {"action": "accept"}});
    let again = ask(&client, &empty);
    assert_eq!(again["inputRequests"], asked["inputRequests"]);
    assert_ne!(again["requestState"], asked["requestState"]);
    let mut malformed = answered(&call("t"), &again, "x");
    for bad in [
        json!({"action": "perhaps"}),
        json!({"action": "accept", "content": 5}),
        json!({"action": "accept", "content": [1]}),
    ] {
        malformed["inputResponses"] = json!({ "r1": bad });
        assert_eq!(code(&client, &malformed), -32602, "{bad}");
    }
    let result = client.get("tools/call", &answered(&call("t"), &again, "Zoe"));
    assert_eq!(result["content"][0]["text"], "t:Zoe");
    rig.stop();
}

#[test]
fn a_form_that_nobody_answers_is_closed_and_leaves_nothing() {
    let rig = Plan::new(json!({"ev": everything(&[])}))
        .env("ONE_MCP_PARKING_TIMEOUT", "1000")
        .start();
    let client = Client::new(rig.port, "/mcp/ev").able(json!({"elicitation": {}}));
    let asked = ask(&client, &call("t"));
    // Who cannot be asked stays on the process that was asked first: it has this one call only.
    let other = Client::new(rig.port, "/mcp/ev");
    eventually("the server is told", || {
        let text = other.text("whoami", json!({}));
        serde_json::from_str::<Value>(&text).unwrap()["calls"] == 1
    });
    assert_eq!(code(&client, &answered(&call("t"), &asked, "late")), -32602);
    rig.stop();
}

#[test]
fn a_server_that_dies_while_it_waits_is_told_to_who_comes_back() {
    let own = with(everything(&[]), json!({"instances": "shared"}));
    let (rig, client) = asking(&own);
    let asked = ask(&client, &call("t"));
    rig.kill("ev");
    let answer = client.ask("tools/call", &answered(&call("t"), &asked, "x"));
    assert_eq!(
        answer["error"]["data"]["onemcp"]["reason"], "crashed",
        "{answer}"
    );
    rig.stop();
}

#[test]
fn who_stands_alone_hears_what_its_own_process_changes() {
    let (rig, client) = asking(&everything(&[]));
    // From now on calls of this client run on processes of their own.
    ask(&client, &call("t"));
    let watched = "test://watched-resource";
    assert!(!client.text("whoami", json!({})).is_empty());
    let mut stream = client.listen(&json!(1), &json!({"resourceSubscriptions": [watched]}));
    assert_eq!(
        stream.message()["method"],
        "notifications/subscriptions/acknowledged"
    );
    client.text("test_update_resource", json!({}));
    let message = stream.message();
    assert_eq!(message["method"], "notifications/resources/updated");
    assert_eq!(message["params"]["uri"], watched);
    stream.cut();
    rig.stop();
}
