//! Who follows whom: sessions on one side, users on the other.

use hashbrown::{HashMap, HashSet};

use crate::id::{ConversationId, SessionId, UserId};

/// A session that follows users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follower {
    /// Whose session.
    pub user: UserId,
    /// Which.
    pub session: SessionId,
    /// A conversation that both were in when last looked.
    pub shared: Option<ConversationId>,
}

#[derive(Debug)]
struct Following {
    user: UserId,
    /// Whom, and a conversation that both were in when last looked.
    users: HashMap<UserId, Option<ConversationId>>,
}

/// Both directions of "follows"; they always agree.
#[derive(Debug, Default)]
pub struct Follows {
    sessions: HashMap<SessionId, Following>,
    followed: HashMap<UserId, HashSet<SessionId>>,
}

impl Follows {
    /// How many users the session would follow with these.
    #[must_use]
    pub fn count_with(&self, session: SessionId, users: &[UserId]) -> usize {
        let following = self.sessions.get(&session);
        let known = |user: &UserId| following.is_some_and(|f| f.users.contains_key(user));
        let fresh: HashSet<&UserId> = users.iter().filter(|user| !known(user)).collect();
        following.map_or(0, |following| following.users.len()) + fresh.len()
    }

    /// The session of `by` follows `user` from now on. `shared` as in [`Follower::shared`].
    pub fn follow(
        &mut self,
        by: &UserId,
        session: SessionId,
        user: &UserId,
        shared: Option<ConversationId>,
    ) {
        let following = self.sessions.entry(session);
        let following =
            following.or_insert_with(|| Following { user: by.clone(), users: HashMap::new() });
        following.users.insert(user.clone(), shared);
        self.followed.entry(user.clone()).or_default().insert(session);
    }

    /// The session no longer follows the user; says whether it did.
    pub fn unfollow(&mut self, session: SessionId, user: &UserId) -> bool {
        let Some(following) = self.sessions.get_mut(&session) else { return false };
        let did = following.users.remove(user).is_some();
        if following.users.is_empty() {
            self.sessions.remove(&session);
        }
        self.forget(user, session);
        did
    }

    /// The session follows nobody any more.
    pub fn end(&mut self, session: SessionId) {
        if let Some(following) = self.sessions.remove(&session) {
            for user in following.users.keys() {
                self.forget(user, session);
            }
        }
    }

    /// Who follows the user; in no order.
    #[must_use]
    pub fn followers(&self, user: &UserId) -> Vec<Follower> {
        let sessions = self.followed.get(user).into_iter().flatten();
        let follower = |session: &SessionId| {
            let following = self.sessions.get(session)?;
            let shared = following.users.get(user)?.clone();
            Some(Follower { user: following.user.clone(), session: *session, shared })
        };
        sessions.filter_map(follower).collect()
    }

    fn forget(&mut self, user: &UserId, session: SessionId) {
        if let Some(sessions) = self.followed.get_mut(user) {
            sessions.remove(&session);
            if sessions.is_empty() {
                self.followed.remove(user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    #[test]
    fn both_directions_agree_and_nothing_is_left_behind() {
        let mut follows = Follows::default();
        let (a, b, one, two) = (user("a"), user("b"), SessionId::new(1), SessionId::new(2));
        let shared = ConversationId::new("c").ok();
        follows.follow(&a, one, &b, None);
        follows.follow(&a, one, &b, shared.clone());
        follows.follow(&a, two, &b, None);
        follows.follow(&a, two, &a, None);
        assert_eq!(follows.count_with(two, &[a.clone(), user("c"), user("c")]), 3);
        let mut followers = follows.followers(&b);
        followers.sort_by_key(|follower| follower.session);
        assert_eq!(
            followers,
            [
                Follower { user: a.clone(), session: one, shared },
                Follower { user: a.clone(), session: two, shared: None },
            ]
        );
        assert!(follows.unfollow(one, &b));
        assert!(!follows.unfollow(one, &b));
        assert_eq!(follows.followers(&b).len(), 1);
        follows.end(two);
        assert!(follows.followers(&a).is_empty() && follows.followers(&b).is_empty());
        assert!(follows.sessions.is_empty() && follows.followed.is_empty());
    }
}
