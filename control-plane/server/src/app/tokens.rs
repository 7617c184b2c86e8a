//! Tokens of people and programs.

use jiff::Timestamp;
use muster_core::id::TokenId;
use muster_storage::{
    Page, Request,
    token::{NewToken, Role, Token},
};

use super::{Access, App, Caller, Error};
use crate::token::{Holder, generate, hash};

/// A token that is to be made.
#[derive(Debug)]
pub(crate) struct WantedToken<'a> {
    pub(crate) display_name: &'a str,
    pub(crate) role: Role,
    /// Name of its project; `None` for administrators.
    pub(crate) project: Option<&'a str>,
    pub(crate) expire_time: Option<Timestamp>,
}

impl App {
    /// Makes a token. The secret is given only to the first of equal requests.
    pub(crate) async fn create_token(
        &self,
        caller: &Caller,
        wanted: &WantedToken<'_>,
        request: Option<&Request>,
    ) -> Result<(Token, Option<String>), Error> {
        let WantedToken {
            display_name,
            role,
            project,
            expire_time,
        } = *wanted;
        caller.require_admin()?;
        if display_name.trim().is_empty() {
            return Err(Error::invalid(
                "display_name",
                "must say who uses the token",
            ));
        }
        let project = match project {
            Some(name) => Some(self.project(caller, name, Access::Write).await?.id),
            None => None,
        };
        let secret = generate(Holder::Person);
        let new = NewToken {
            hash: hash(&secret),
            display_name: display_name.to_owned(),
            role,
            project,
            expire_time,
        };
        let written = self.store.tokens().create(&new, request).await?;
        Ok((written.value, (!written.replayed).then_some(secret)))
    }

    pub(crate) async fn list_tokens(
        &self,
        caller: &Caller,
        after: Option<TokenId>,
        limit: u32,
    ) -> Result<Page<Token, TokenId>, Error> {
        caller.require_admin()?;
        Ok(self.store.tokens().list(after, limit).await?)
    }

    pub(crate) async fn delete_token(
        &self,
        caller: &Caller,
        token: TokenId,
        request: Option<&Request>,
    ) -> Result<(), Error> {
        caller.require_admin()?;
        self.store.tokens().delete(token, request).await?;
        Ok(())
    }
}
