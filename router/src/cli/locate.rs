//! Which node is meant, and with which token: flags, environment, or the data folder of a running node.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Exit, Failure};
use crate::admin::{self, ADDR_FILE};
use crate::config::NodeConfig;

/// Where to find the node.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Node")]
pub struct NodeArgs {
    /// The node's HTTP API, such as 127.0.0.1:7080; else EDGEWAY_NODE, else the one that runs on the data folder
    #[arg(long, value_name = "ADDR")]
    pub node: Option<String>,
    /// The file of the node's token; else EDGEWAY_TOKEN_FILE, else admin.token in the data folder
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The node's data folder; else EDGEWAY_DATA, else edgeway-data
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// A node's address and token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// `http://HOST:PORT`.
    pub base: String,
    /// The token.
    pub token: String,
}

impl NodeArgs {
    /// The data folder that is meant.
    pub fn data_dir(&self) -> PathBuf {
        data_dir(self.data.as_deref())
    }

    /// Finds address and token.
    ///
    /// # Errors
    /// When no node runs on the data folder, or the token cannot be read.
    pub fn locate(&self) -> Result<Located, Failure> {
        let data = self.data_dir();
        let node = self.node.clone().or_else(|| in_environment("EDGEWAY_NODE"));
        let base = match node {
            Some(typed) => base_of(&typed)?,
            None => format!("http://{}", running_on(&data)?),
        };
        let path = match self.token_file.clone().or_else(|| in_environment("EDGEWAY_TOKEN_FILE").map(PathBuf::from)) {
            Some(path) => path,
            None => data.join(admin::Config::default().token_file),
        };
        let token = admin::read_token(&path).map_err(|error| {
            Failure::new(Exit::Refused, error.to_string())
                .hint("name the token's file with --token-file, or the node's data folder with --data")
        })?;
        Ok(Located { base, token })
    }
}

/// What a variable of the environment says. Not by way of the parser of the command line, which would show flags that
/// nobody typed in its messages.
pub fn in_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The data folder that is meant: as it was typed, as the environment has it, or the one of a node without settings.
pub fn data_dir(typed: Option<&Path>) -> PathBuf {
    let typed = typed.map(Path::to_owned).or_else(|| in_environment("EDGEWAY_DATA").map(PathBuf::from));
    typed.unwrap_or_else(|| NodeConfig::default().data)
}

/// The base address of what was typed: `HOST:PORT`, with or without `http://`.
fn base_of(typed: &str) -> Result<String, Failure> {
    let authority = typed.strip_prefix("http://").unwrap_or(typed).trim_end_matches('/');
    let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let plain = !authority.contains(['/', '@', '?', '#', ' ']);
    if port.is_some() && plain {
        return Ok(format!("http://{authority}"));
    }
    Err(Failure::usage(format!("--node {typed:?} is no address: expected HOST:PORT, such as 127.0.0.1:7080")))
}

fn running_on(data: &Path) -> Result<String, Failure> {
    match std::fs::read_to_string(data.join(ADDR_FILE)) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(_) => {
            let what = format!("no node runs on the data folder {}", data.display());
            let hint = "start one with `edgeway run`, or name it with --node ADDR, EDGEWAY_NODE or --data DIR";
            Err(Failure::new(Exit::Unreachable, what).hint(hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn addresses_are_read() {
        let cases = [
            ("127.0.0.1:7080", Some("http://127.0.0.1:7080")),
            ("http://gateway:1/", Some("http://gateway:1")),
            ("[::1]:7080", Some("http://[::1]:7080")),
            ("gateway", None),
            ("gateway:x", None),
            ("https://gateway:1", None),
            ("gateway:1/path", None),
            ("user@gateway:1", None),
            ("", None),
        ];
        for (typed, expected) in cases {
            let read = base_of(typed).ok();
            assert_eq!(read.as_deref(), expected, "{typed:?}");
        }
    }

    #[test]
    fn a_running_node_is_found_by_its_data_folder() {
        let folder = tempfile::tempdir().unwrap();
        let args = NodeArgs { data: Some(folder.path().to_owned()), ..NodeArgs::default() };
        let Err(Failure::Told { exit, .. }) = args.locate() else { panic!("nothing runs there") };
        assert_eq!(exit, Exit::Unreachable);
        fs::write(folder.path().join(ADDR_FILE), "127.0.0.1:5\n").unwrap();
        let Err(Failure::Told { exit, .. }) = args.locate() else { panic!("there is no token") };
        assert_eq!(exit, Exit::Refused);
        let token = folder.path().join("admin.token");
        let text = "0123456789abcdef0123456789abcdef";
        fs::write(&token, format!("{text}\n")).unwrap();
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
        let located = args.locate().unwrap();
        assert_eq!(located, Located { base: "http://127.0.0.1:5".into(), token: text.into() });
    }
}
