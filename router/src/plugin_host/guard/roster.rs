//! All guards, in the order of their names, and what they say together.

use std::sync::Arc;

use parking_lot::RwLock;

use super::answer::{Answer, cut};
use super::post::Post;
use crate::security::{Asked, Guard, Judgement};

/// The guards of the node. Asking holds no lock of the roster's.
#[derive(Default)]
pub struct Roster(RwLock<Arc<[Arc<Post>]>>);

impl Roster {
    /// The guards as they are now.
    pub fn posts(&self) -> Arc<[Arc<Post>]> {
        Arc::clone(&self.0.read())
    }

    /// The guard of this name.
    pub fn get(&self, name: &str) -> Option<Arc<Post>> {
        self.posts().iter().find(|post| post.manifest.name == name).cloned()
    }

    /// Puts a guard at its post, in place of one of its name: there is no moment without.
    pub fn put(&self, post: Arc<Post>) {
        let mut posts = self.0.write();
        let others = posts.iter().filter(|other| other.manifest.name != post.manifest.name);
        let mut all: Vec<Arc<Post>> = others.cloned().collect();
        all.push(post);
        all.sort_by(|a, b| a.manifest.name.cmp(&b.manifest.name));
        *posts = all.into();
    }

    /// Takes a guard off.
    pub fn remove(&self, name: &str) {
        let mut posts = self.0.write();
        *posts = posts.iter().filter(|post| post.manifest.name != name).cloned().collect();
    }
}

impl Guard for Roster {
    fn is_on_duty(&self) -> bool {
        !self.0.read().is_empty()
    }

    fn wants(&self, device: &str, name: &str) -> bool {
        self.posts().iter().any(|post| post.wants(device, name))
    }

    fn judge(&self, asked: &Asked) -> Judgement {
        let mut rewritten: Option<(&Post, Vec<u8>)> = None;
        let posts = self.posts();
        for post in posts.iter().filter(|post| post.wants(&asked.device, &asked.name)) {
            let payload = rewritten.as_ref().map_or(asked.payload.as_slice(), |(_, payload)| payload);
            let guard = || post.manifest.name.clone();
            match post.judge(asked, payload) {
                Ok(Answer::Allow) => {}
                Ok(Answer::Rewrite(payload)) => rewritten = Some((post, payload)),
                Ok(Answer::Deny(reason)) => return Judgement::Deny { guard: guard(), reason },
                Err(unanswered) => return Judgement::Failed { guard: guard(), reason: cut(unanswered.to_string()) },
            }
        }
        match rewritten {
            Some((post, payload)) => Judgement::Rewrite { guard: post.manifest.name.clone(), payload },
            None => Judgement::Allow,
        }
    }
}
