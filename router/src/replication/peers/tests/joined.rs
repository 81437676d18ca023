//! The whole way: a node joins a site of one, and is one of two then.

use super::*;
use crate::replication::join::{Admission, Applicant, JoinRefusal, Request, SiteFacts, Welcome, draw_token, join};

/// Admits whoever comes.
struct Open(Arc<SiteIdentity>, SocketAddr);

impl Admission for Open {
    fn admit<'a>(&'a self, request: &'a Request) -> Pending<'a, Result<Welcome, JoinRefusal>> {
        Box::pin(async move {
            let admitted = self.0.admit(NodeId(2), &request.name, &request.public_key).unwrap();
            let members = vec![member(1, self.1), member(2, &request.address)];
            Ok(Welcome::new(SITE, NodeId(2), admitted, SiteFacts { name: "s".to_owned(), members, topics: Vec::new() }))
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_by_the_port_of_the_site_and_is_connected() {
    let ids = Ids::make(1);
    let endpoint = ids.endpoint(1, &fast());
    let address = endpoint.address().unwrap();
    let desk = Desk::new("n1", Arc::default(), Arc::new(Open(ids.of(1), address)));
    let first = Node::start_with(endpoint, 11, Vec::new(), fast(), Some(Arc::new(desk)));

    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("site");
    let key = NodeKey::waiting(&folder).unwrap();
    let token = draw_token(SITE, ids.of(1).ca_fingerprint(), vec![address.to_string()]).unwrap();
    // The port is known before the node joins, as it is told to the others.
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let applicant = Applicant { name: "n2", address: &port.to_string(), key: &key };
    let welcome = join(&token, applicant).await.unwrap();
    let identity = Arc::new(welcome.install(&folder, &key).unwrap());

    let endpoint = site_endpoint(port, identity, fast().bounds()).unwrap();
    let second = Node::start(endpoint, 12, welcome.facts.members.clone(), fast());
    first.members.send_replace(Arc::new(welcome.facts.members));
    first.sees_connected(2).await;
    second.sees_connected(1).await;
}
