//! `edgeway node join`: gives a new data folder its place in a site.

use std::io::Write;

use super::super::locate::data_dir;
use super::super::out::Out;
use super::super::{Exit, Failure};
use crate::node::{SITE_FOLDER, STORE_FOLDER};
use crate::replication::join::{Applicant, JoinError, join};
use crate::security::JoinToken;
use crate::transport::NodeKey;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What `edgeway node token` printed on a node of the site
    token: String,
    /// The new node's data folder
    #[arg(long, value_name = "FOLDER")]
    data: Option<std::path::PathBuf>,
    /// What people call the node; no two of a site have one name
    #[arg(long)]
    name: String,
    /// HOST:PORT by which the other nodes reach it
    #[arg(long, value_name = "HOST:PORT")]
    address: String,
}

pub(super) fn run(args: &Args, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let failed = |text: String| Failure::new(Exit::Failed, text);
    let token: JoinToken = args.token.parse().map_err(|error: crate::security::JoinTokenError| {
        Failure::new(Exit::Usage, error.to_string()).hint("copy the whole line that `edgeway node token` printed")
    })?;
    let data = data_dir(args.data.as_deref());
    for there in [STORE_FOLDER, SITE_FOLDER] {
        if data.join(there).exists() {
            let what = format!("{} is there already: a node joins with a new data folder", data.join(there).display());
            return Err(failed(what).hint("name another with --data, or remove what is there if it is not needed"));
        }
    }
    std::fs::create_dir_all(&data).map_err(|error| failed(format!("the data folder {}: {error}", data.display())))?;
    // One that was cut off while it joined comes back with the same key.
    let key = NodeKey::waiting(&data.join(SITE_FOLDER)).map_err(|error| failed(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(error.to_string()))?;
    let applicant = Applicant { name: &args.name, address: &args.address, key: &key };
    let welcome = runtime.block_on(join(&token, applicant)).map_err(|error| {
        let exit = if matches!(error, JoinError::Unreached(_)) { Exit::Unreachable } else { Exit::Failed };
        Failure::new(exit, error.to_string())
    })?;
    welcome.install(&data.join(SITE_FOLDER), &key).map_err(|error| failed(error.to_string()))?;
    let said = serde_json::json!({"site": format!("{:016x}", welcome.site), "node": welcome.node.to_string()});
    let (name, node) = (&welcome.facts.name, welcome.node);
    out.done(&said, &format!("joined site {name} ({:016x}) as node {node}", welcome.site))?;
    let port = args.address.rsplit(':').next().unwrap_or("14569");
    let (data, address) = (data.display(), &args.address);
    eprintln!("start it: edgeway run --data {data} --site-listen 0.0.0.0:{port} --site-address {address}");
    Ok(())
}
