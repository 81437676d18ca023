//! Who may do what: the words in which a guard judges commands, and the tokens with which a node joins a site and a site
//! feeds another.

mod guard;
mod join_token;

pub use guard::{Asked, Guard, GuardSlot, Judgement};
pub use join_token::{
    JOIN_ADDRESS_BYTES_MAX, JOIN_ADDRESSES_MAX, JOIN_SECRET_BYTES, JOIN_TOKEN_LIFETIME, JoinToken, JoinTokenError,
    JoinTokenHash, LinkToken,
};
