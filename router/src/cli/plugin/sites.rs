//! `edgeway plugin --site`: what a site that feeds this one is to have.

use std::io::Write;

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::Failure;
use super::super::api::{Api, encoded};
use super::super::out::Out;
use super::super::table::{Table, printable};
use super::COMPILE_WITHIN;
use crate::admin::links::PluginDownJson;

#[derive(Deserialize)]
struct Plugins {
    plugins: Vec<PluginDownJson>,
}

/// Gives a site a plugin.
pub(super) fn give(api: &Api, site: &str, body: &Value, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let given: Value = api.post(&format!("links/{}/plugins", encoded(site)), body, COMPILE_WITHIN)?;
    let name = given["name"].as_str().unwrap_or_default();
    let text =
        format!("site {site} is to have plugin {name}; `edgeway plugin list --site {site}` says what came of it");
    out.done(&given, &text)
}

/// Says that a site is not to have one any more.
pub(super) fn take_back(api: &Api, site: &str, plugin: &str, out: &mut Out<impl Write>) -> Result<(), Failure> {
    api.delete(&format!("links/{}/plugins/{}?issued_by=cli", encoded(site), encoded(plugin)))?;
    let text = format!("plugin {plugin} is to be removed at site {site}");
    out.done(&json!({"removed": plugin, "site": site}), &text)
}

/// What a site is to have.
pub(super) fn list(api: &Api, site: &str, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let Plugins { plugins } = api.get(&format!("links/{}/plugins", encoded(site)))?;
    if out.is_json() {
        return plugins.iter().try_for_each(|plugin| out.object(plugin));
    }
    let mut table = Table::new(&["PLUGIN", "SHA256", "SITE SAYS"]);
    for plugin in &plugins {
        let digest: String = plugin.sha256.chars().take(12).collect();
        table.row([plugin.name.clone(), digest, printable(&plugin.said.join("; "))]);
    }
    out.table(&table, "the site is to have no plugins; `edgeway plugin deploy FILE.wasm --site SITE` gives it one")
}
