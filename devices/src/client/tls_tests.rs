//! Trust by a pin and by a file, in handshakes between two ends in memory.

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConnection, ServerConfig, ServerConnection};

use super::*;

struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    pem: String,
}

fn identity(name: &str) -> Identity {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    Identity { certificate: made.cert.der().clone(), key, pem: made.cert.pem() }
}

/// Shakes hands as with a host of this name; the client's error, if it has one.
fn shake_hands(tls: &Tls, node: &Identity, host: &str) -> Result<(), rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![node.certificate.clone()], node.key.clone_key())
        .unwrap();
    let mut server = ServerConnection::new(Arc::new(config)).unwrap();
    let mut client = ClientConnection::new(tls.config(), ServerName::try_from(host.to_owned()).unwrap()).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        bytes.clear();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn a_certificate_is_trusted_by_pin_by_file_or_by_both() {
    let folder = tempfile::tempdir().unwrap();
    let (node, other) = (identity("gw"), identity("gw"));
    let file = |name: &str, identity: &Identity| {
        let path = folder.path().join(name);
        fs::write(&path, &identity.pem).unwrap();
        path
    };
    let (own, foreign) = (file("own.pem", &node), file("foreign.pem", &other));
    let (pin, wrong) = (Some(Fingerprint::of(&node.certificate)), Some(Fingerprint::of(&other.certificate)));
    // (pin, file, name that is asked for, whether it is trusted)
    let cases = [
        (pin, None, "gw", true),
        (pin, None, "another", true),
        (wrong, None, "gw", false),
        (None, Some(&own), "gw", true),
        (None, Some(&own), "another", false),
        (None, Some(&foreign), "gw", false),
        (pin, Some(&own), "gw", true),
        (pin, Some(&own), "another", false),
        (wrong, Some(&own), "gw", false),
        (pin, Some(&foreign), "gw", false),
    ];
    for (number, (pin, ca, host, trusted)) in cases.into_iter().enumerate() {
        let tls = Tls::new(pin, ca.map(|path| path.as_path())).unwrap();
        let outcome = shake_hands(&tls, &node, host);
        assert_eq!(outcome.is_ok(), trusted, "case {number}: {outcome:?}");
    }
}

#[test]
fn without_something_to_trust_there_is_no_trust() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    fs::write(&empty, "nothing").unwrap();
    assert!(matches!(Tls::new(None, None), Err(TlsError::Nothing)));
    assert!(matches!(Tls::with_ca(&empty), Err(TlsError::Content(_))));
    assert!(matches!(Tls::with_ca(&folder.path().join("none.pem")), Err(TlsError::File { .. })));
}
