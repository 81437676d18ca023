//! Topics that go down the links: which, and what each end judges of them.

use edgeway::links::{Given, MayBring, Origins, Refused, goes_up, may_come};
use sled_data::{Linked, OriginId, Store, TopicId};

use super::{Link, World};
use crate::chain::bug::Bug;
use crate::chain::history;
use crate::seeded::random::Random;

/// What ends list.
const LISTS: [&[&str]; 5] =
    [&["telemetry"], &["*"], &["alarms", "*/telemetry"], &["*", "*/*"], &["telemetry", "link-0/*", "*/*/*"]];

/// What a link brings down.
pub struct Down {
    /// The link by which the edge feeds.
    of: usize,
    /// Upstream's end.
    given: Given,
    /// The edge's.
    may: MayBring,
}

impl World {
    /// Each link brings topics down besides, whatever the lists of its ends say.
    pub fn bring_down(&mut self, random: &mut Random) {
        for of in 0..self.links.len() {
            let mut list =
                || LISTS[random.place(LISTS.len())].iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            let lists = [list(), list()];
            let (from, to) = (self.links[of].to, self.links[of].from);
            let (above, below) = (self.sites[from].id, self.sites[to].id);
            let link = self.links.len() as u64 + 1;
            self.history.downs.push(history::Down { from, to, link, lists: lists.clone() });
            let [wanted, allowed] = match self.has(Bug::BringsWhatIsNotListed) {
                true => [(); 2].map(|()| vec!["*".to_owned(), "*/*".to_owned()]),
                false => lists,
            };
            let may = MayBring { topics: wanted.clone(), site: above };
            let (links, found) = (vec![of as u64 + 1], Default::default());
            let given = Given { wanted, allowed, links, site: below, found };
            self.links.push(Link::of(from, to, Some(Down { of, given, may })));
        }
    }

    /// Whether a link is about a partition of a topic.
    pub fn is_meant(&self, number: usize, topic: &str, linked: Option<&Linked>) -> bool {
        let Link { within, down, .. } = &self.links[number];
        match (within, down) {
            // A site's nodes have what each other writes by another way.
            (Some(_), _) => linked.is_some() && !self.has(Bug::KeptByOneNode),
            (None, Some(down)) => down.given.goes(topic, linked),
            (None, None) => {
                let is_of = |link: &Link| link.down.as_ref().is_some_and(|down| down.of == number);
                let down = self.links.iter().position(is_of).map(|place| place as u64 + 1);
                goes_up(Origins::All, linked.map(|linked| linked.link), false, down)
            }
        }
    }

    /// Whether an origin may come by a link.
    pub fn may_come(
        &self,
        number: usize,
        store: &Store,
        origin: OriginId,
        path: &[u64],
        site: u64,
    ) -> Result<(), Refused> {
        let link = self.links[number].within.unwrap_or(number) as u64 + 1;
        may_come(store, origin, path, site, link)?;
        self.links[number].down.as_ref().map_or(Ok(()), |down| down.may.judge_path(origin, path))
    }

    /// Whether a topic may, as it is called where it comes from; `here`, once it is here.
    pub fn may_be_brought(&self, number: usize, id: TopicId, name: &str, here: Option<&str>) -> Result<(), Refused> {
        let Some(down) = &self.links[number].down else { return Ok(()) };
        match here {
            None => down.may.judge_topic(id, name),
            Some(here) => down.may.judge_here(id, here),
        }
    }
}
