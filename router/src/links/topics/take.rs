//! The edge: keeps a stream by which topics come down, for as long as the link stands.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::super::book::{Shared, State};
use super::super::budget::Budget;
use super::super::dial::Dialler;
use super::super::knows_ahead::KnowsAhead;
use super::super::pack;
use super::super::plugins::{Partial, TakePlugins};
use super::super::receiver::{Ended, Receiver};
use super::super::sender::Session;
use super::super::upstream::Upstream;
use super::super::wire::Answer;
use super::lists::of_words;
use super::wire::{LIST_BYTES_MAX, Wish, decode_gives, encode_wants};
use super::{BRINGS_TOPICS, Listed, MayBring, link_of};
use crate::event_log::Comes;
use crate::transport::{FrameReceiver, FrameSender, NodeId, SiteConnection};

/// How long each of the first frames may take.
const GREET_WAIT: Duration = Duration::from_secs(20);
/// Bytes of the welcome.
const WELCOME_BYTES_MAX: usize = 1 << 10;
/// How long it waits when the stream has ended; and when something came that cannot be.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
const WRONG_WAIT: Duration = if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(60) };

/// What a link's task needs to take topics, and plugins.
pub struct Brings {
    /// What is known of what comes down.
    pub page: Shared,
    /// The memory that it may take.
    pub budget: Budget,
    /// The sites that feed this one, and its other nodes, where there can be any.
    pub below: Option<Arc<Upstream>>,
    /// Who deploys plugins.
    pub take_plugins: Option<Arc<dyn TakePlugins>>,
    /// The component that is being fetched.
    pub partial: Arc<Partial>,
}

/// A stream that was greeted.
type Greeted = (FrameSender, FrameReceiver);

impl Dialler {
    /// Takes what comes down, once upstream has said that it knows how, and again when that ends. Does not end by itself.
    pub(in crate::links) async fn take_topics(&self, connection: &SiteConnection, session: &Arc<Session>) {
        let topics = of_words(&self.config.down);
        if topics.is_empty() {
            return std::future::pending().await;
        }
        let page = &self.brings.page;
        page.lock().set(State::Connecting, "upstream has not said that its program knows how topics go down");
        session.down.until_brings(BRINGS_TOPICS).await;
        let _shown = Shown(page);
        loop {
            let ended = self.take_once(connection, session, &topics).await;
            let text = match &ended {
                Ended::Wrong(text) => format!("what came down cannot be taken: {text}"),
                ended => ended.to_string(),
            };
            tracing::debug!(link = self.name, why = text, "a stream that brings topics has ended");
            let is_wrong = matches!(ended, Ended::Wrong(_));
            if is_wrong && page.lock().refuse(&text) {
                tracing::error!(link = self.name, "{text}");
                self.listed(session, &topics).audit(&self.log, &text);
            }
            page.lock().set(if is_wrong { State::Refused } else { State::Cut }, text);
            sleep(if is_wrong { WRONG_WAIT } else { AGAIN_AFTER }).await;
        }
    }

    fn listed(&self, session: &Arc<Session>, topics: &[String]) -> Listed {
        let may = MayBring { topics: topics.to_vec(), site: self.identity.lock().site() };
        Listed { may, session: Arc::clone(session) }
    }

    /// One stream, to its end.
    async fn take_once(&self, connection: &SiteConnection, session: &Arc<Session>, topics: &[String]) -> Ended {
        if self.brings.below.as_ref().is_some_and(|below| below.has_site(&self.name)) {
            let name = &self.name;
            return Ended::Wrong(format!(
                "a site that feeds this one is called {name} as well, and so would its topics be"
            ));
        }
        let (out, from) = match timeout(GREET_WAIT, self.wish(connection, topics)).await {
            Ok(Ok(greeted)) => greeted,
            Ok(Err(ended)) => return ended,
            Err(_) => return Ended::Again("upstream has not said in time what it gives".to_owned()),
        };
        let link = link_of(&self.identity.lock());
        let receiver = Receiver {
            log: Arc::clone(&self.log),
            link,
            // No gateway's: upstream speaks as one.
            node: NodeId(0),
            name: self.name.clone(),
            site: self.site,
            page: Arc::clone(&self.brings.page),
            budget: self.brings.budget.clone(),
            within: self.brings.below.as_ref().map(|below| Arc::clone(below.within())),
            listed: Some(self.listed(session, topics)),
            knows_ahead: KnowsAhead::Nothing,
            drops: Arc::default(),
            comes: Comes::ByLink,
        };
        receiver.run(out, from, None).await
    }

    /// Says what is wanted, and hears what is given.
    async fn wish(&self, connection: &SiteConnection, topics: &[String]) -> Result<Greeted, Ended> {
        let (mut out, mut from) = connection.open().await?;
        let dictionary = if self.brings.page.lock().takes_plain { 0 } else { pack::DICTIONARY };
        let wish = Wish { site: self.site, rate_bytes_max: self.config.rate_bytes_max, dictionary };
        out.send_frame(&wish.encode()).await?;
        let ended = || Ended::Again("upstream ended the stream".to_owned());
        let welcome = from.receive_frame(WELCOME_BYTES_MAX).await?.ok_or_else(ended)?;
        if !matches!(Answer::decode(&welcome)?, Answer::Welcome(..)) {
            return Err(Ended::Wrong("something else than welcome".to_owned()));
        }
        out.send_frame(&encode_wants(topics)).await?;
        let gives = decode_gives(&from.receive_frame(LIST_BYTES_MAX).await?.ok_or_else(ended)?)?;
        let mut page = self.brings.page.lock();
        page.down = gives;
        page.connections += 1;
        page.set(State::Connected, "");
        Ok((out, from))
    }
}

/// What is shown while the link stands.
struct Shown<'a>(&'a Shared);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.0.lock().set(State::Cut, "the link is cut");
    }
}
