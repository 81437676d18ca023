//! A device by hand: what a real one does on the wire, and nothing of our client.

use super::mqtt::{Client, Connect, Message, Version};
use super::node::Node;

/// A connected device that listens for its commands.
pub struct Device {
    pub name: String,
    pub client: Client,
}

/// A command as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub id: String,
    pub name: String,
    pub message: Message,
}

impl Device {
    /// Connects under its name and subscribes to its commands.
    pub fn connect(node: &Node, version: Version, name: &str) -> Device {
        let mut client = Client::connect(node.mqtt, &Connect::new(version, name));
        assert_eq!(client.subscribe(&format!("edgeway/command/{name}/#"), 1), 1);
        Device { name: name.to_owned(), client }
    }

    /// Publishes a reading to `sensors/NAME/temperature`.
    pub fn reading(&mut self, value: f64) {
        let message = Message::new(&format!("sensors/{}/temperature", self.name), value.to_string());
        assert_eq!(self.client.publish(&message.qos(1)), 0);
    }

    /// The next command, acknowledged.
    pub fn command(&mut self) -> Command {
        let message = self.client.message();
        let levels: Vec<&str> = message.topic.split('/').collect();
        let ["edgeway", "command", device, id, name] = levels[..] else { panic!("not a command: {}", message.topic) };
        assert_eq!(device, self.name);
        assert_eq!(message.qos, 1);
        Command { id: id.to_owned(), name: name.to_owned(), message }
    }

    /// Answers a command.
    pub fn answer(&mut self, command: &Command, status: &str, payload: &str) {
        let topic = format!("edgeway/answer/{}/{}/{status}", self.name, command.id);
        assert_eq!(self.client.publish(&Message::new(&topic, payload).qos(1)), 0);
    }
}

/// Routing that gives devices' readings a topic and their names as keys.
pub const ROUTING: &str = r#"
[[routing.rules]]
pattern = "sensors/{device}/{metric}"
topic = "telemetry"
key = "{device}"
"#;
