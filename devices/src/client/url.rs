//! Where the node is, as one line of text: `mqtt://`, `mqtts://` and `quic://` addresses. Parsing is pure.
//!
//! ```text
//! mqtt://[USER[:PASSWORD]@]HOST[:1883][?version=5|3.1.1]
//! mqtts://[USER[:PASSWORD]@]HOST[:8883]?pin=HEX|ca=FILE[&version=5|3.1.1]
//! quic://[USER[:TOKEN]@]HOST[:14567]?pin=HEX|ca=FILE
//! ```

use thiserror::Error;

use super::config::{Config, Login, Version};

/// The longest address that is read, in bytes.
const URL_BYTES_MAX: usize = 4_096;

/// How the node is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Mqtt,
    Mqtts,
    Quic,
}

/// An address, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    scheme: Scheme,
    user: Option<String>,
    password: Option<String>,
    host: String,
    port: u16,
    pin: Option<String>,
    ca: Option<String>,
    version: Version,
}

/// Why an address cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    /// It is too long to be one.
    #[error("an address has at most {URL_BYTES_MAX} bytes, found {0}")]
    TooLong(usize),
    /// It begins with something else.
    #[error("expected an address that begins with mqtt://, mqtts:// or quic://, found {0:?}")]
    Scheme(String),
    /// There is no host, or one that cannot be.
    #[error("expected a host name, an IPv4 address or an IPv6 address in brackets, found {0:?}")]
    Host(String),
    /// The port is no number, or 0.
    #[error("expected a port from 1 to 65535 behind the host, found {0:?}")]
    Port(String),
    /// Something stands where only options may.
    #[error("expected nothing or ?OPTION=VALUE behind the host, found {0:?}")]
    Path(String),
    /// A percent sign that escapes nothing, or what it escapes is no UTF-8.
    #[error("expected two hexadecimal digits behind each % and UTF-8 as the outcome, found {0:?}")]
    Escape(String),
    /// An option that the scheme does not have.
    #[error("expected the option {expected}, found {found:?}")]
    Option {
        /// What was found.
        found: String,
        /// The options that there are.
        expected: &'static str,
    },
    /// An option stands twice.
    #[error("the option {0} stands twice")]
    Twice(&'static str),
    /// A value that an option cannot have.
    #[error("expected {expected} for {name}, found {found:?}")]
    Value {
        /// The option.
        name: &'static str,
        /// What was found.
        found: String,
        /// What can be.
        expected: &'static str,
    },
    /// Nothing says by what the node's certificate is trusted.
    #[error(
        "{0}:// needs ?pin=HEX (the SHA-256 of the node's certificate, in its file quic.fingerprint) or ?ca=FILE; no \
         certificates are trusted by themselves"
    )]
    Trust(&'static str),
    /// The certificates that vouch for the node cannot be used.
    #[error("{0}")]
    Certificates(String),
    /// MQTT over TLS knows hosts by name or IPv4 address alone.
    #[error("mqtts:// takes a host name or an IPv4 address, found {0}")]
    Ipv6(String),
    /// The client was built without what the scheme needs.
    #[error("{0}:// is not in this build of the client; build it with the feature `{1}`")]
    NotBuilt(&'static str, &'static str),
}

impl Config {
    /// A device's configuration for an address, with everything else at its default. Reads the file that `?ca=` names.
    ///
    /// # Errors
    /// What was found and what was expected.
    pub fn from_url(url: &str, device: impl Into<String>) -> Result<Self, UrlError> {
        let address = parse(url)?;
        let mut config = Self::new(address.host.clone(), address.port, device);
        config.transport = address.transport()?;
        config.login = address.user.map(|user| Login { user, password: address.password.unwrap_or_default() });
        Ok(config)
    }
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Mqtts => "mqtts",
            Self::Quic => "quic",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Mqtt => 1_883,
            Self::Mqtts => 8_883,
            Self::Quic => 14_567,
        }
    }

    fn options(self) -> &'static str {
        match self {
            Self::Mqtt => "version",
            Self::Mqtts => "pin, ca or version",
            Self::Quic => "pin or ca",
        }
    }
}

fn parse(url: &str) -> Result<Address, UrlError> {
    if url.len() > URL_BYTES_MAX {
        return Err(UrlError::TooLong(url.len()));
    }
    let (name, rest) = url.split_once("://").ok_or_else(|| UrlError::Scheme(url.to_owned()))?;
    let schemes = [Scheme::Mqtt, Scheme::Mqtts, Scheme::Quic];
    let scheme = schemes.into_iter().find(|scheme| scheme.name().eq_ignore_ascii_case(name));
    let scheme = scheme.ok_or_else(|| UrlError::Scheme(format!("{name}://")))?;
    let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if let Some(at) = authority.find(['/', '#']) {
        return Err(UrlError::Path(authority[at..].to_owned()));
    }
    let (login, place) = match authority.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, authority),
    };
    let (user, password) = parse_login(login)?;
    let (host, port) = parse_place(place)?;
    let port = port.unwrap_or(scheme.port());
    let mut address = Address { scheme, user, password, host, port, pin: None, ca: None, version: Version::default() };
    address.parse_query(query)?;
    Ok(address)
}

type ParsedLogin = (Option<String>, Option<String>);

fn parse_login(login: Option<&str>) -> Result<ParsedLogin, UrlError> {
    let Some(login) = login else { return Ok((None, None)) };
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (login, None),
    };
    Ok((Some(unescape(user)?), password.map(unescape).transpose()?))
}

fn parse_place(place: &str) -> Result<(String, Option<u16>), UrlError> {
    let (host, port) = if let Some(rest) = place.strip_prefix('[') {
        let (host, behind) = rest.split_once(']').ok_or_else(|| UrlError::Host(place.to_owned()))?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(UrlError::Host(place.to_owned()));
        }
        match (behind, behind.strip_prefix(':')) {
            ("", _) => (host, None),
            (_, Some(port)) => (host, Some(port)),
            (_, None) => return Err(UrlError::Port(behind.to_owned())),
        }
    } else {
        match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        }
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
    if host.is_empty() || !host.chars().all(legal) {
        return Err(UrlError::Host(host.to_owned()));
    }
    let port = port.map(|text| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let port = text.parse().ok().filter(|port| digits && *port > 0);
        port.ok_or_else(|| UrlError::Port(text.to_owned()))
    });
    Ok((host.to_owned(), port.transpose()?))
}

impl Address {
    fn parse_query(&mut self, query: &str) -> Result<(), UrlError> {
        let mut version = None;
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let encrypted = self.scheme != Scheme::Mqtt;
            let (name, place) = match name {
                "pin" if encrypted => ("pin", &mut self.pin),
                "ca" if encrypted => ("ca", &mut self.ca),
                "version" if self.scheme != Scheme::Quic => ("version", &mut version),
                _ => return Err(UrlError::Option { found: name.to_owned(), expected: self.scheme.options() }),
            };
            if place.replace(unescape(value)?).is_some() {
                return Err(UrlError::Twice(name));
            }
        }
        self.version = match version.as_deref() {
            None => Version::default(),
            Some("5") => Version::V5,
            Some("3.1.1") => Version::V311,
            Some(other) => return Err(wrong("version", other, "5 or 3.1.1")),
        };
        if self.ca.as_deref() == Some("") {
            return Err(wrong("ca", "", "the path of a PEM file"));
        }
        if self.scheme != Scheme::Mqtt && self.pin.is_none() && self.ca.is_none() {
            return Err(UrlError::Trust(self.scheme.name()));
        }
        Ok(())
    }
}

fn wrong(name: &'static str, found: &str, expected: &'static str) -> UrlError {
    UrlError::Value { name, found: found.to_owned(), expected }
}

/// Takes percent signs and the two digits behind each for the byte that they mean.
fn unescape(text: &str) -> Result<String, UrlError> {
    let wrong = || UrlError::Escape(text.to_owned());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| (digit as char).to_digit(16)).ok_or_else(wrong);
        bytes.push((digit()? << 4 | digit()?) as u8);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

mod transport {
    //! What is built of an address.

    use super::super::config::Transport;
    use super::{Address, Scheme, UrlError};

    impl Address {
        pub(super) fn transport(&self) -> Result<Transport, UrlError> {
            let (host, port, version) = (self.host.clone(), self.port, self.version);
            match self.scheme {
                Scheme::Mqtts if host.contains(':') => Err(UrlError::Ipv6(host)),
                Scheme::Mqtt => Ok(Transport::Mqtt { host, port, version }),
                #[cfg(feature = "tls")]
                Scheme::Mqtts => Ok(Transport::Mqtts { host, port, version, tls: self.tls()? }),
                #[cfg(not(feature = "tls"))]
                Scheme::Mqtts => Err(UrlError::NotBuilt("mqtts", "tls")),
                #[cfg(feature = "quic")]
                Scheme::Quic => Ok(Transport::Quic { host, port, tls: self.tls()?, endpoint: None }),
                #[cfg(not(feature = "quic"))]
                Scheme::Quic => Err(UrlError::NotBuilt("quic", "quic")),
            }
        }

        #[cfg(feature = "tls")]
        fn tls(&self) -> Result<super::super::Tls, UrlError> {
            let pin = self.pin.as_deref().map(|pin| {
                let expected = "64 hexadecimal digits, with or without colons";
                pin.parse().map_err(|_| super::wrong("pin", pin, expected))
            });
            let ca = self.ca.as_deref().map(std::path::Path::new);
            super::super::Tls::new(pin.transpose()?, ca).map_err(|error| UrlError::Certificates(error.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(scheme: Scheme, host: &str, port: u16) -> Address {
        let (user, password, pin, ca) = (None, None, None, None);
        Address { scheme, user, password, host: host.to_owned(), port, pin, ca, version: Version::V5 }
    }

    #[test]
    fn what_is_one_is_taken_apart() {
        let some = |text: &str| Some(text.to_owned());
        let cases = [
            ("mqtt://gw", address(Scheme::Mqtt, "gw", 1_883)),
            ("MQTT://10.0.0.1:1884/", address(Scheme::Mqtt, "10.0.0.1", 1_884)),
            ("mqtt://[::1]", address(Scheme::Mqtt, "::1", 1_883)),
            ("mqtt://[fe80::1]:99?version=5", address(Scheme::Mqtt, "fe80::1", 99)),
            ("mqtt://gw?version=3.1.1", Address { version: Version::V311, ..address(Scheme::Mqtt, "gw", 1_883) }),
            ("mqtt://u@gw", Address { user: some("u"), ..address(Scheme::Mqtt, "gw", 1_883) }),
            (
                "mqtt://a%40b:p%3a%2F@gw",
                Address { user: some("a@b"), password: some("p:/"), ..address(Scheme::Mqtt, "gw", 1_883) },
            ),
            ("mqtts://gw?pin=00:ff", Address { pin: some("00:ff"), ..address(Scheme::Mqtts, "gw", 8_883) }),
            (
                "mqtts://gw.example.org?ca=%2Fetc%2Fca%20file.pem&version=5",
                Address { ca: some("/etc/ca file.pem"), ..address(Scheme::Mqtts, "gw.example.org", 8_883) },
            ),
            ("quic://gw?pin=0", Address { pin: some("0"), ..address(Scheme::Quic, "gw", 14_567) }),
            (
                "quic://[::1]:5?pin=0&ca=a/b.pem",
                Address { pin: some("0"), ca: some("a/b.pem"), ..address(Scheme::Quic, "::1", 5) },
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_none_says_what_was_found_and_expected() {
        let cases = [
            ("gw:1883", "begins with mqtt://, mqtts:// or quic://, found \"gw:1883\""),
            ("http://gw", "found \"http://\""),
            ("mqtt://", "expected a host name, an IPv4 address or an IPv6 address in brackets, found \"\""),
            ("mqtt://a b", "found \"a b\""),
            ("mqtt://[::1", "found \"[::1\""),
            ("mqtt://[gw]", "found \"[gw]\""),
            ("mqtt://::1", "found \"\""),
            ("mqtt://[::1]1883", "expected a port from 1 to 65535 behind the host, found \"1883\""),
            ("mqtt://gw:", "found \"\""),
            ("mqtt://gw:0", "found \"0\""),
            ("mqtt://gw:65536", "found \"65536\""),
            ("mqtt://gw:+1", "found \"+1\""),
            ("mqtt://gw/topic", "found \"/topic\""),
            ("mqtt://u%4@gw", "two hexadecimal digits behind each % and UTF-8 as the outcome, found \"u%4\""),
            ("mqtt://%ff@gw", "found \"%ff\""),
            ("mqtt://gw?pin=00", "expected the option version, found \"pin\""),
            ("mqtts://gw?pin=00&alpn=x", "expected the option pin, ca or version, found \"alpn\""),
            ("quic://gw?pin=00&version=5", "expected the option pin or ca, found \"version\""),
            ("quic://gw?pin=00&pin=11", "the option pin stands twice"),
            ("mqtt://gw?version=4", "expected 5 or 3.1.1 for version, found \"4\""),
            ("mqtts://gw?ca=", "expected the path of a PEM file for ca, found \"\""),
            ("mqtts://gw", "mqtts:// needs ?pin=HEX"),
            ("quic://gw?", "quic:// needs ?pin=HEX"),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert_eq!(parse(&format!("mqtt://{}", "a".repeat(5_000))), Err(UrlError::TooLong(5_007)));
    }

    #[cfg(feature = "quic")]
    #[test]
    fn a_configuration_is_made_of_it() {
        let pin = "00".repeat(32);
        let config = Config::from_url(&format!("quic://u:p@gw?pin={pin}"), "pump-7").unwrap();
        let super::super::config::Transport::Quic { host, port, .. } = &config.transport else { panic!("quic") };
        assert_eq!((host.as_str(), *port, config.device.as_str()), ("gw", 14_567, "pump-7"));
        let login = config.login.unwrap();
        assert_eq!((login.user.as_str(), login.password.as_str()), ("u", "p"));
        for (text, expected) in [
            ("quic://gw?pin=00".to_owned(), "expected 64 hexadecimal digits, with or without colons for pin"),
            ("mqtts://gw?ca=/nowhere.pem".to_owned(), "/nowhere.pem cannot be read"),
        ] {
            let error = Config::from_url(&text, "d").err().unwrap().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
