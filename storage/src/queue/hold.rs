//! Whether anything is given out at all.

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QuerySelect, QueryTrait,
    sea_query::{Expr, SimpleExpr},
};
use uuid::Uuid;

use super::Queue;
use crate::{
    Error, Request,
    audit::{self, Done},
    entity::{self, instance as row},
    request, text,
    transaction::Failure,
};

/// The key under which a pause stands, with its message; nothing while the queue goes on.
const PAUSE: &str = "queue_pause";

impl Queue<'_> {
    pub(super) async fn set_pause(
        &self,
        message: Option<&str>,
        request: Option<&Request>,
    ) -> Result<(), Error> {
        let now = self.store.clock().now();
        self.store
            .transaction("hold_queue", |tx| async move {
                if request::replay(request, &*tx).await?.is_some() {
                    return Ok(());
                }
                request::record(request, &*tx, Uuid::nil(), 0, now).await?;
                let told =
                    |pause: Option<&str>| audit::json(&serde_json::json!({ "pause": pause }));
                let before = pause(&*tx).await?;
                row::Entity::delete_by_id(PAUSE).exec(&*tx).await?;
                if let Some(message) = message {
                    let pause = row::Model {
                        key: PAUSE.to_owned(),
                        value: text::message(message),
                    };
                    entity::insert::<row::Entity, _>(&*tx, pause)
                        .await
                        .map_err(|error| Failure::from(error).again_on_unique())?;
                }
                let done = Done {
                    before: told(before.as_deref())?,
                    after: told(message)?,
                    ..Done::default()
                };
                audit::record(request, &*tx, done, now).await?;
                Ok(())
            })
            .await
    }

    pub(super) async fn load_pause(&self) -> Result<Option<String>, Error> {
        self.store
            .read("get_queue", || pause(self.store.reader()))
            .await
    }
}

/// The condition that nothing is paused.
pub(super) fn is_off() -> SimpleExpr {
    let pause = row::Entity::find()
        .select_only()
        .column(row::Column::Key)
        .filter(row::Column::Key.eq(PAUSE));
    Expr::exists(pause.into_query()).not()
}

/// The message of a pause.
pub(super) async fn pause<C: ConnectionTrait>(db: &C) -> Result<Option<String>, Failure> {
    let row = row::Entity::find_by_id(PAUSE).one(db).await?;
    Ok(row.map(|row| row.value))
}
