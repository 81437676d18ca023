//! `edgeway route`: the routing rules of the site, and where an MQTT topic goes by them.

use std::io::Write;

use clap::Subcommand;
use serde_json::json;

use super::api::{Api, encoded};
use super::locate::NodeArgs;
use super::out::Out;
use super::table::Table;
use super::{Exit, Failure};
use crate::admin::devices::IssuedBy;
use crate::admin::routes::{RouteView, RoutesView, SetRoute};
use crate::catalog::ROUTE_ORDER;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Set a rule on all nodes of the site; at once, also for clients that are connected
    Set {
        #[command(flatten)]
        rule: Rule,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// List the rules in the order in which they are asked: the site's, then those of the node's configuration
    List {
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Delete a rule of the site
    Delete {
        /// The rule
        name: String,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Say where an MQTT topic goes
    Test {
        /// The MQTT topic
        mqtt_topic: String,
        #[command(flatten)]
        node: NodeArgs,
    },
}

#[derive(Debug, clap::Args)]
#[group(skip)]
struct Rule {
    /// Its name; a rule of that name is replaced
    name: String,
    /// The MQTT topics: {name} for one level, + for one without a name, # at the end for the rest
    #[arg(long)]
    pattern: String,
    /// The topic; may hold {name} of the pattern
    #[arg(long)]
    topic: String,
    /// The key; may hold {name} of the pattern. Else it is the MQTT topic
    #[arg(long)]
    key: Option<String>,
    /// Its place: lower ones are asked first, those of one place by their names
    #[arg(long, value_name = "NUMBER", default_value_t = ROUTE_ORDER)]
    order: u32,
}

pub fn run(args: Args, out: &mut Out<impl Write>) -> Result<(), Failure> {
    match args.action {
        Action::Set { rule, node } => set(&Api::to(&node)?, rule, out),
        Action::List { node } => list(&Api::to(&node)?, out),
        Action::Delete { name, node } => {
            Api::to(&node)?.delete(&format!("routes/{}?issued_by=cli", encoded(&name)))?;
            out.done(&json!({"deleted": name}), &format!("routing rule {name} is deleted"))
        }
        Action::Test { mqtt_topic, node } => test(&Api::to(&node)?, &mqtt_topic, out),
    }
}

fn set(api: &Api, rule: Rule, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let Rule { name, pattern, topic, key, order } = rule;
    let body = SetRoute { pattern, topic, key, order, issued_by: IssuedBy::Cli };
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let view: RouteView = api.put(&format!("routes/{}", encoded(&name)), &body)?;
    out.done(&view, &format!("routing rule {name} is set: {} goes to topic {}", view.pattern, view.topic))
}

fn list(api: &Api, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let RoutesView { routes, strict, .. } = api.get("routes")?;
    if out.is_json() {
        return routes.iter().try_for_each(|route| out.object(route));
    }
    let mut table = Table::new(&["RULE", ">ORDER", "PATTERN", "TOPIC", "KEY"]);
    for route in routes {
        table.row([
            route.name.unwrap_or_else(|| "(configuration)".to_owned()),
            route.order.map_or_else(String::new, |order| order.to_string()),
            route.pattern,
            route.topic,
            route.key.unwrap_or_else(|| "(MQTT topic)".to_owned()),
        ]);
    }
    out.table(&table, "no routing rules; `edgeway route set` sets one")?;
    match strict {
        true => out.line("what no rule names is refused ([routing] strict)"),
        false => out.line("what no rule names goes to topic mqtt"),
    }
}

fn test(api: &Api, mqtt_topic: &str, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let RoutesView { destination, .. } = api.get(&format!("routes?mqtt_topic={}", encoded(mqtt_topic)))?;
    match destination {
        Some(to) => out.done(&to, &format!("{mqtt_topic} goes to topic {}, key {}", to.topic, to.key)),
        None => Err(Failure::new(Exit::NotFound, format!("no routing rule names {mqtt_topic}, and rules are strict"))),
    }
}
