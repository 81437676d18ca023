//! Topic aliases of MQTT 5.0 (section 3.3.2.3.4): those a client set, and those set towards it.

use std::collections::HashMap;

use super::Close;
use super::rules;

/// What a client's aliases stand for on this connection.
#[derive(Debug)]
pub(super) struct InboundAliases {
    names: Vec<Option<Box<str>>>,
    maximum: u16,
}

impl InboundAliases {
    pub(super) fn new(maximum: u16) -> Self {
        Self { names: Vec::new(), maximum }
    }

    fn slot(&mut self, alias: u16) -> Result<&mut Option<Box<str>>, Close> {
        if alias == 0 || alias > self.maximum {
            return Err(Close::of(rules::ALIAS_TOO_LARGE));
        }
        let at = usize::from(alias) - 1;
        if self.names.len() <= at {
            self.names.resize(at + 1, None);
        }
        self.names.get_mut(at).ok_or(Close::of(rules::ALIAS_TOO_LARGE))
    }

    /// Sets an alias. Allocates only when it stands for another name than before.
    pub(super) fn set(&mut self, alias: u16, topic: &str) -> Result<(), Close> {
        let slot = self.slot(alias)?;
        if slot.as_deref() != Some(topic) {
            *slot = Some(topic.into());
        }
        Ok(())
    }

    /// What an alias stands for.
    pub(super) fn get(&mut self, alias: u16) -> Result<&str, Close> {
        self.slot(alias)?.as_deref().ok_or(Close::of(rules::ALIAS_UNKNOWN))
    }
}

/// How an outgoing message names its topic.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TopicForm {
    /// By its name.
    Name,
    /// By its name, and with this alias from now on.
    Introduce(u16),
    /// By this alias alone.
    Alias(u16),
}

/// The aliases set towards a client: the first topics that it is sent keep one for the connection's life.
#[derive(Debug, Default)]
pub struct OutboundAliases {
    by_name: HashMap<Box<str>, u16>,
    maximum: u16,
}

impl OutboundAliases {
    pub(super) fn new(maximum: u16) -> Self {
        Self { by_name: HashMap::new(), maximum }
    }

    /// Whether the client takes aliases at all.
    #[inline]
    pub fn is_offered(&self) -> bool {
        self.maximum > 0
    }

    /// How a message to `topic` names it. What is introduced must then be sent.
    pub fn form(&mut self, topic: &str) -> TopicForm {
        if self.maximum == 0 {
            return TopicForm::Name;
        }
        if let Some(&alias) = self.by_name.get(topic) {
            return TopicForm::Alias(alias);
        }
        match u16::try_from(self.by_name.len()) {
            Ok(used) if used < self.maximum => {
                self.by_name.insert(topic.into(), used + 1);
                TopicForm::Introduce(used + 1)
            }
            _ => TopicForm::Name,
        }
    }
}
