//! Addresses in the file: an error says what an address looks like.

use std::fmt;
use std::net::SocketAddr;

use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// Reads an address with its port, for `#[serde(deserialize_with)]`.
///
/// # Errors
/// What was found, and that an address with a port was expected.
pub fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    struct Address;

    impl Visitor<'_> for Address {
        type Value = SocketAddr;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an address with a port, such as \"127.0.0.1:1883\" or \"[::]:1883\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<SocketAddr, E> {
            text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
        }
    }

    deserializer.deserialize_str(Address)
}

/// An address that may be left off, for `#[serde(with)]`: `"off"`, or what [`address()`] takes.
pub mod address_or_off {
    use std::net::SocketAddr;

    use serde::de::{Deserializer, Error};
    use serde::ser::Serializer;
    use serde::{Deserialize, Serialize};

    /// No address.
    const OFF: &str = "off";

    /// Writes the address, or that there is none.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(address: &Option<SocketAddr>, serializer: S) -> Result<S::Ok, S::Error> {
        match address {
            Some(address) => address.serialize(serializer),
            None => OFF.serialize(serializer),
        }
    }

    /// Reads an address with its port, or `"off"`.
    ///
    /// # Errors
    /// What was found, and what was expected.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == OFF {
            return Ok(None);
        }
        let wrong = || {
            let expected = "\"off\", or an address with a port, such as \"0.0.0.0:14567\"";
            D::Error::custom(format_args!("invalid value: string {text:?}, expected {expected}"))
        };
        text.parse().map(Some).map_err(|_| wrong())
    }
}
