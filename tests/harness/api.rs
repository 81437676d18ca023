//! The node's HTTP API, with its token.

use serde_json::{Value, json};

use super::http::{self, Answer};
use super::node::Node;

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in:\n{}", self.body))
    }

    /// The body as JSON lines.
    pub fn lines(&self) -> Vec<Value> {
        let lines = self.body.lines();
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}"))).collect()
    }

    /// The same, where the call must have succeeded.
    pub fn ok(self) -> Answer {
        assert!((200..300).contains(&self.status), "{self:?}");
        self
    }
}

impl Node {
    /// A call below `/v1/`; `None` is sent as an empty body.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let (host, bearer) = (self.http.to_string(), format!("Bearer {}", self.token));
        let headers = [("Host", host.as_str()), ("Authorization", &bearer), ("Content-Type", "application/json")];
        let bytes = body.map(Value::to_string).unwrap_or_default();
        http::request(self.http, method, &format!("/v1/{path}"), &headers, bytes.as_bytes()).unwrap()
    }

    /// GET below `/v1/`.
    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None)
    }

    /// Sends a command; gives its id.
    pub fn send_command(&self, device: &str, name: &str, payload: &str, deliver_within_ms: Option<u64>) -> String {
        let mut body = json!({"device": device, "name": name, "payload": payload, "allow_unknown": true});
        if let Some(ms) = deliver_within_ms {
            body["deliver_within_ms"] = ms.into();
        }
        let sent = self.call("POST", "commands", Some(&body)).ok().json();
        sent["id"].as_str().unwrap().to_owned()
    }

    /// Sends a command with all that may be said of it.
    pub fn submit(&self, body: &Value) -> Answer {
        self.call("POST", "commands", Some(body))
    }

    /// Waits until a command is in a state.
    pub fn wait_command(&self, id: &str, state: &str) {
        super::wait::until_true(&format!("{id} {state}"), || self.command_state(id) == state);
    }

    /// Where a command stands.
    pub fn command_state(&self, id: &str) -> String {
        let shown = self.get(&format!("commands/{id}")).ok().json();
        shown["state"].as_str().unwrap().to_owned()
    }
}
