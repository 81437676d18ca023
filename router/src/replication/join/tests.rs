//! Nodes that join a site of one, over real endpoints on the loopback interface.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::timeout;

use super::*;
use crate::replication::peers::Spoken;
use crate::replication::{Config, Member, Pending};
use crate::security::JoinTokenHash;
use crate::transport::{Ended, NodeId, NodeKey, SiteEndpoint, SiteIdentity, StreamError, dial_join, site_endpoint};

const LONG: Duration = Duration::from_secs(40);
const SITE: u64 = 0x51;

/// A token as a site keeps it.
#[derive(Default)]
struct Kept {
    is_expired: bool,
    used: Option<(Vec<u8>, Welcome)>,
}

/// What the catalog decides otherwise.
struct Office {
    identity: Arc<SiteIdentity>,
    tokens: Mutex<BTreeMap<JoinTokenHash, Kept>>,
    has_majority: bool,
}

impl Admission for Office {
    fn admit<'a>(&'a self, request: &'a Request) -> Pending<'a, Result<Welcome, JoinRefusal>> {
        Box::pin(async move {
            let refused = |code: RefusalCode| Err(JoinRefusal::new(code, "so it is"));
            if !self.has_majority {
                return refused(RefusalCode::NoMajority);
            }
            let mut tokens = self.tokens.lock();
            let Some(kept) = tokens.get_mut(&request.token()) else { return refused(RefusalCode::TokenUnknown) };
            match &kept.used {
                Some((key, welcome)) if *key == request.public_key => return Ok(welcome.clone()),
                Some(_) => return refused(RefusalCode::TokenUsed),
                None if kept.is_expired => return refused(RefusalCode::TokenExpired),
                None if request.name == "n1" => return refused(RefusalCode::NameTaken),
                None => {}
            }
            let node = NodeId(2);
            let admitted = self.identity.admit(node, &request.name, &request.public_key);
            let admitted = admitted.map_err(|error| JoinRefusal::new(RefusalCode::Invalid, error.to_string()))?;
            let member = Member { node, name: request.name.clone(), address: request.address.clone() };
            let facts = SiteFacts { name: "s".to_owned(), members: vec![member], topics: Vec::new() };
            let welcome = Welcome::new(SITE, node, admitted, facts);
            kept.used = Some((request.public_key.clone(), welcome.clone()));
            Ok(welcome)
        })
    }
}

struct Site {
    endpoint: SiteEndpoint,
    address: SocketAddr,
    office: Arc<Office>,
    spoken: Arc<Spoken>,
    _folder: tempfile::TempDir,
}

impl Site {
    fn start(has_majority: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identity = SiteIdentity::init(&folder.path().join("site"), SITE, NodeId(1), "n1").unwrap();
        Self::of(Arc::new(identity), has_majority, folder)
    }

    fn of(identity: Arc<SiteIdentity>, has_majority: bool, folder: tempfile::TempDir) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoint = site_endpoint(any, Arc::clone(&identity), Config::default().bounds()).unwrap();
        let office = Arc::new(Office { identity, tokens: Mutex::default(), has_majority });
        let spoken = Arc::<Spoken>::default();
        let desk = Arc::new(Desk::new("n1", Arc::clone(&spoken), Arc::clone(&office) as _));
        let taking = endpoint.clone();
        tokio::spawn(async move {
            while let Some(attempt) = taking.accept().await {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    if let Ok(connection) = attempt.shake_hands().await {
                        desk.serve(connection).await;
                    }
                });
            }
        });
        let address = endpoint.address().unwrap();
        Self { endpoint, address, office, spoken, _folder: folder }
    }

    fn token(&self) -> JoinToken {
        let ca = self.office.identity.ca_fingerprint();
        let token = draw_token(SITE, ca, vec![self.address.to_string()]).unwrap();
        self.office.tokens.lock().insert(token.hash(), Kept::default());
        token
    }
}

async fn apply(token: &JoinToken, name: &str, key: &NodeKey) -> Result<Welcome, JoinError> {
    let applicant = Applicant { name, address: "n2:14569", key };
    timeout(LONG, join(token, applicant)).await.unwrap()
}

fn code(joined: Result<Welcome, JoinError>) -> RefusalCode {
    match joined {
        Err(JoinError::Refused(refusal)) => refusal.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_node_joins_with_a_token_and_is_of_the_site_then() {
    let site = Site::start(true);
    let token = site.token();
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("site");
    let key = NodeKey::waiting(&folder).unwrap();
    let welcome = apply(&token.to_string().parse().unwrap(), "n2", &key).await.unwrap();
    let again = apply(&token, "n2", &NodeKey::waiting(&folder).unwrap()).await.unwrap();
    assert!(again == welcome, "one that was cut off is given the same again");

    let identity = welcome.install(&folder, &key).unwrap();
    assert_eq!((identity.site(), identity.node()), (SITE, NodeId(2)));
    let read = SiteIdentity::read(&folder).unwrap().unwrap();
    assert_eq!(read.ca_fingerprint(), site.office.identity.ca_fingerprint());
    assert_eq!(read_facts(&folder).unwrap().unwrap(), welcome.facts);
    assert_eq!(read_facts(site._folder.path()).unwrap(), None, "the first node was told nothing");

    // It can admit others itself, and the first node takes it.
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let second = site_endpoint(any, Arc::new(identity), Config::default().bounds()).unwrap();
    let connection = timeout(LONG, second.dial(site.address, NodeId(1))).await.unwrap().unwrap();
    assert_eq!(connection.peer(), Some(NodeId(1)));
    assert!(read.admit(NodeId(3), "n3", NodeKey::draw().unwrap().public()).is_ok());
}

#[tokio::test]
async fn each_refusal_has_its_code() {
    let site = Site::start(true);
    let key = NodeKey::draw().unwrap();
    let other = NodeKey::draw().unwrap();

    let token = site.token();
    assert_eq!(code(apply(&token, "n1", &key).await), RefusalCode::NameTaken);
    assert_eq!(code(apply(&token, "n 2", &key).await), RefusalCode::Invalid);
    apply(&token, "n2", &key).await.unwrap();
    assert_eq!(code(apply(&token, "n3", &other).await), RefusalCode::TokenUsed);

    let expired = site.token();
    site.office.tokens.lock().get_mut(&expired.hash()).unwrap().is_expired = true;
    assert_eq!(code(apply(&expired, "n3", &other).await), RefusalCode::TokenExpired);

    let unknown = JoinToken { secret: [1; 32], ..token };
    let error = apply(&unknown, "n3", &other).await.unwrap_err();
    assert_eq!(error.to_string(), "the site refuses: so it is (token-unknown)");
}

#[tokio::test]
async fn another_node_is_asked_where_one_has_no_majority() {
    let folder = tempfile::tempdir().unwrap();
    let alone = Site::start(false);
    let key = NodeKey::draw().unwrap();
    let token = alone.token();
    assert_eq!(code(apply(&token, "n2", &key).await), RefusalCode::NoMajority);
    let with_majority = Site::of(Arc::clone(&alone.office.identity), true, folder);
    let kept = with_majority.token();
    // The first is no address, nobody is at the second, the third lacks the majority.
    let addresses = ["nowhere.invalid:1".to_owned(), alone.address.to_string(), with_majority.address.to_string()];
    let token = JoinToken { addresses: addresses.to_vec(), ..kept };
    apply(&token, "n2", &key).await.unwrap();
}

#[tokio::test]
async fn who_is_not_what_the_token_names_is_told_nothing() {
    let site = Site::start(true);
    let key = NodeKey::draw().unwrap();
    let token = JoinToken { ca: [7; 32], ..site.token() };
    let error = apply(&token, "n2", &key).await.unwrap_err().to_string();
    assert!(error.contains("does not have the CA that the token names"), "{error}");
    assert!(error.contains(&site.address.to_string()), "{error}");
    let token = JoinToken { site: 0x52, ..site.token() };
    let error = apply(&token, "n2", &key).await.unwrap_err().to_string();
    assert!(error.contains("of another site"), "{error}");
    assert!(site.office.tokens.lock().values().all(|kept| kept.used.is_none()));
    site.endpoint.close(0, "", LONG).await;
    let token = site.token();
    let joined = timeout(Duration::from_secs(8), join(&token, Applicant { name: "n2", address: "n2:1", key: &key }));
    assert!(matches!(joined.await.unwrap(), Err(JoinError::Unreached(tried)) if tried.len() == 1));
}

#[tokio::test]
async fn those_who_say_nothing_keep_nobody_from_joining() {
    let site = Site::start(true);
    let pin = site.office.identity.ca_fingerprint();
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(dial_join(site.address, SITE, pin, Config::default().bounds()).await.unwrap());
    }
    let key = NodeKey::draw().unwrap();
    apply(&site.token(), "n2", &key).await.unwrap();
    // They have not been given up yet, but for those who had to yield.
    let first = timeout(LONG, silent[0].ended()).await.unwrap();
    assert!(first.to_string().contains("other nodes join right now"), "{first}");
}

/// What comes back for raw bytes on the stream.
async fn answer_to(site: &Site, bytes: &[u8]) -> Result<Option<Vec<u8>>, StreamError> {
    let pin = site.office.identity.ca_fingerprint();
    let connection = dial_join(site.address, SITE, pin, Config::default().bounds()).await.unwrap();
    let (mut send, mut receive) = connection.open().await.unwrap();
    send.send_head(bytes).await.unwrap();
    send.finish();
    timeout(LONG, receive.receive_frame(1 << 20)).await.unwrap()
}

fn refusal(answer: Result<Option<Vec<u8>>, StreamError>) -> JoinRefusal {
    match message::decode(&answer.unwrap().unwrap()).ok().unwrap() {
        message::Answer::Refusal(refusal) => refusal,
        message::Answer::Welcome(welcome) => panic!("{welcome:?}"),
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_le_bytes()[..], body].concat()
}

#[tokio::test]
async fn garbage_and_other_versions_are_refused() {
    let site = Site::start(true);
    for garbage in [&b""[..], b"garbage that is no frame", &framed(&[1; 4 << 10]), &framed(b"")[..3]] {
        let answer = answer_to(&site, garbage).await;
        let says_so = |ended: &Ended| ended.to_string().contains("the request cannot be read");
        assert!(matches!(&answer, Err(StreamError::Lost(ended)) if says_so(ended)), "{answer:?}");
    }
    assert_eq!(refusal(answer_to(&site, &framed(b"\x01garbage")).await).code, RefusalCode::Invalid);
    let later = refusal(answer_to(&site, &framed(b"\x02whatever")).await);
    assert_eq!(later.code, RefusalCode::Version);
    assert!(later.text.contains("upgrade the node that admits"), "{later}");

    let key = NodeKey::draw().unwrap();
    let request = Request {
        secret: site.token().secret,
        name: "n2".to_owned(),
        address: "n2:1".to_owned(),
        public_key: key.public().to_vec(),
        program: "9.0.0".to_owned(),
        protocols: vec![8, 9],
    };
    let later = refusal(answer_to(&site, &framed(&message::encode(&request))).await);
    assert_eq!(later.code, RefusalCode::Version);
    assert!(later.text.ends_with("have no protocol in common: upgrade n1"), "{later}");
    // A site that has moved on takes no node that is too old for it.
    site.spoken.raise(2);
    let older = Request { protocols: vec![1], ..request.clone() };
    let earlier = refusal(answer_to(&site, &framed(&message::encode(&older))).await);
    assert_eq!(earlier.code, RefusalCode::Version);
    assert!(earlier.text.ends_with("have no protocol in common: upgrade n2"), "{earlier}");
    let no_key = Request { public_key: vec![1, 2, 3], protocols: vec![2], ..request };
    assert_eq!(refusal(answer_to(&site, &framed(&message::encode(&no_key))).await).code, RefusalCode::Invalid);
}
