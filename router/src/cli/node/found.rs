//! `edgeway node init`: founds a site on a stopped node.

use std::io::Write;

use sled_data::{OpenError, Store};

use super::super::locate::data_dir;
use super::super::out::Out;
use super::super::{Exit, Failure};
use crate::config::StoreConfig;
use crate::node::{NAME_FILE, Place, SITE_FOLDER, STORE_FOLDER};
use crate::transport::SiteIdentity;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The node's data folder; made where there is none
    #[arg(long, value_name = "FOLDER")]
    data: Option<std::path::PathBuf>,
    /// What people call the node
    #[arg(long, default_value = "n1")]
    name: String,
}

pub(super) fn run(args: &Args, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let data = data_dir(args.data.as_deref());
    let failed = |text: String| Failure::new(Exit::Failed, text);
    std::fs::create_dir_all(&data).map_err(|error| failed(format!("the data folder {}: {error}", data.display())))?;
    let path = data.join(STORE_FOLDER);
    let opened = Store::open(&path, StoreConfig::default().to_options());
    let (store, recovered) = opened.map_err(|error| {
        let hint =
            if matches!(error, OpenError::InUse) { "stop the node first, and start it again afterwards" } else { "" };
        failed(format!("the store in {} does not open: {error}", path.display())).hint(hint)
    })?;
    let place =
        Place::settle(&store, recovered.last_hlc + 1, None, false).map_err(|error| failed(error.to_string()))?;
    let folder = data.join(SITE_FOLDER);
    let founded = SiteIdentity::init(&folder, place.site, place.node, &args.name);
    let named = founded.is_ok().then(|| std::fs::write(folder.join(NAME_FILE), &args.name)).transpose();
    named.map_err(|error| failed(format!("{}: {error}", folder.join(NAME_FILE).display())))?;
    let closed = store.close();
    let founded = founded.map_err(|error| failed(error.to_string()))?;
    closed.map_err(|error| failed(error.to_string()))?;
    let said = serde_json::json!({
        "site": format!("{:016x}", place.site),
        "node": place.node.to_string(),
        "fingerprint": founded.ca_fingerprint().to_string(),
    });
    out.done(&said, &format!("site {:016x} is founded; this is node {}", place.site, place.node))?;
    let data = data.display();
    eprintln!(
        "start it with an address for the others: edgeway run --data {data} --site-listen 0.0.0.0:14569 --site-address HOST:14569"
    );
    eprintln!("then `edgeway node token` prints what another node joins with");
    Ok(())
}
