//! Calls that ask of the site and of links, at a node that has neither.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{code, fixture};
use crate::admin::ApiError;
use crate::admin::links::{InviteJson, LinkControl, LinkJson, PluginDownJson};
use crate::admin::site::{LeftView, Pending, RemovedView, SiteControl, SiteView, TokenView};
use crate::catalog::SiteUpdate;
use crate::links::detail::{Ask, AskError, Detail};

/// A site of one, of which nothing can be asked.
pub struct Alone;

fn not_in_a_site<T>() -> Pending<'static, T> {
    Box::pin(async { Err(ApiError::conflict("this node has no certificate of a site")) })
}

impl SiteControl for Alone {
    fn view(&self) -> SiteView {
        SiteView {
            id: "0000000000000001".into(),
            lease: "run".into(),
            bounds: Vec::new(),
            name: "s".into(),
            node: "0000000000000002".into(),
            certified: false,
            catalog: Default::default(),
            quorum: Default::default(),
            nodes: Vec::new(),
            origins: Vec::new(),
            troubles: Vec::new(),
        }
    }

    fn issue_token(&self) -> Pending<'_, TokenView> {
        not_in_a_site()
    }

    fn remove<'a>(&'a self, _: &'a str) -> Pending<'a, RemovedView> {
        not_in_a_site()
    }

    fn leave(&self) -> Pending<'_, LeftView> {
        not_in_a_site()
    }

    fn set(&self, _: SiteUpdate, _: &'static str) -> Pending<'_, ()> {
        not_in_a_site()
    }

    fn promote_lost(&self) -> Pending<'_, ()> {
        not_in_a_site()
    }
}

/// A node that has no links, and makes none.
pub struct NoLinks;

impl LinkControl for NoLinks {
    fn feeds(&self, _: &str) -> bool {
        false
    }

    fn plugins(&self, _: &str) -> Vec<PluginDownJson> {
        Vec::new()
    }

    fn hear_others<'a>(&'a self) -> Pending<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn tell_others<'a>(&'a self) -> Pending<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn views(&self) -> Vec<LinkJson> {
        Vec::new()
    }

    fn detail<'a>(&'a self, site: &'a str, _: Ask) -> Pending<'a, Detail> {
        Box::pin(async { Err(AskError::Unknown(site.to_owned()).into()) })
    }

    fn invite<'a>(&'a self, _: &'a str) -> Pending<'a, InviteJson> {
        not_in_a_site()
    }

    fn accept<'a>(&'a self, _: &'a str, _: &'a str) -> Pending<'a, String> {
        not_in_a_site()
    }

    fn pause(&self, name: &str, _: bool) -> Result<(), ApiError> {
        Err(ApiError::not_found(format!("there is no link {name}")))
    }

    fn remove<'a>(&'a self, _: &'a str) -> Pending<'a, ()> {
        not_in_a_site()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_are_told_and_asked() {
    fixture()
        .await
        .run(|caller| {
            assert_eq!(caller.get("/v1/links"), (200, json!({"links": []})));
            assert_eq!(caller.get("/v1/links/hq").0, 404);
            // (query, status and word of a range that is asked of a site)
            let ranges = [
                ("from=@5", (404, "not_found")),
                ("from=5&to=@9&partition=1&max=2", (404, "not_found")),
                ("from=end", (400, "bad_request")),
                ("from=@5&to=@5", (400, "bad_request")),
                ("to=5", (400, "bad_request")),
                ("after=x", (400, "bad_request")),
                ("follow=true", (400, "bad_request")),
            ];
            for (query, expected) in ranges {
                let path = format!("/v1/links/plant-7/topics/plant-8%2Ftelemetry/events?{query}");
                assert_eq!(code(&caller.get(&path)), expected, "{query}");
            }
            assert_eq!(caller.post("/v1/links/hq/pause", &json!({})).0, 404);
            assert_eq!(caller.post("/v1/links/invite", &json!({"site": "plant-7"})).0, 409);
            assert_eq!(caller.post("/v1/links/accept", &json!({"token": "t"})).0, 400, "the name is missing");
            assert_eq!(caller.delete("/v1/links/hq").0, 409);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_site_is_told_and_asked() {
    fixture()
        .await
        .run(|caller| {
            let (status, site) = caller.get("/v1/site");
            assert_eq!((status, &site["id"]), (200, &Value::from("0000000000000001")));
            for path in ["/v1/site/tokens", "/v1/site/leave", "/v1/site/promote-lost"] {
                let (status, told) = caller.post(path, &json!({}));
                assert_eq!((status, &told["error"]["code"]), (409, &Value::from("conflict")), "{path}");
            }
            assert_eq!(caller.delete("/v1/site/nodes/n2").0, 409);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_takes_nothing_new() {
    let fixture = fixture().await;
    let readiness = Arc::clone(&fixture.readiness);
    fixture
        .run(move |caller| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(readiness.leave(std::time::Duration::from_secs(1)));
            let refused = caller.post("/v1/topics", &json!({"name": "late"}));
            assert_eq!(code(&refused), (503, "leaving"));
            assert_eq!(caller.get("/v1/topics").0, 200, "it can be looked at");
            assert_eq!(code(&caller.post("/v1/site/leave", &json!({}))), (409, "conflict"), "and asked about its site");
            readiness.stay();
            assert_eq!(caller.post("/v1/topics", &json!({"name": "late"})).0, 201);
        })
        .await;
}
