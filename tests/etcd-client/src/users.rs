//! Users, roles and permissions.

use etcd_client::{Client, Permission, RoleRevokePermissionOptions};

use crate::{Checked, ensure};

fn user(name: &str, password: &str) -> Option<(String, String)> {
    Some((name.to_owned(), password.to_owned()))
}

pub async fn authentication(client: &mut Client) -> Checked {
    client.user_add("root", "rp", None).await?;
    client.user_grant_role("root", "root").await?;
    client.user_add("bob", "bp", None).await?;
    client.role_add("half").await?;
    let permission = Permission::read_write("users/").with_prefix();
    client.role_grant_permission("half", permission).await?;
    client.user_grant_role("bob", "half").await?;
    assert_eq!(client.user_list().await?.users(), ["bob", "root"]);
    assert_eq!(client.role_list().await?.roles(), ["half"]);
    assert_eq!(client.user_get("bob").await?.roles(), ["half"]);
    ensure(client.user_add("bob", "bp", None).await.is_err(), "a name is given once");
    client.auth_enable().await?;

    ensure(client.get("users/1", None).await.is_err(), "nobody may read");
    client.update_user(user("bob", "bp")).await?;
    client.put("users/1", "x", None).await?;
    assert_eq!(client.get("users/1", None).await?.kvs().len(), 1);
    ensure(client.put("others/1", "x", None).await.is_err(), "bob may not write that");
    ensure(client.user_list().await.is_err(), "that is root's");
    ensure(client.compact(1, None).await.is_err(), "so is that");

    client.update_user(user("root", "rp")).await?;
    client.put("others/1", "x", None).await?;
    let permissions = client.role_get("half").await?.permissions();
    let [permission] = &permissions[..] else { panic!("{permissions:?}") };
    assert_eq!((permission.key(), permission.range_end()), (&b"users/"[..], &b"users0"[..]));
    client.user_change_password("bob", "new").await?;
    ensure(client.clone().update_user(user("bob", "bp")).await.is_err(), "the old one is void");
    client.update_user(user("root", "rp")).await?;
    let options = RoleRevokePermissionOptions::new().with_prefix();
    client.role_revoke_permission("half", "users/", Some(options)).await?;
    client.user_revoke_role("bob", "half").await?;
    client.user_delete("bob").await?;
    client.role_delete("half").await?;
    client.auth_disable().await?;
    client.update_user(None).await?;
    client.put("users/1", "y", None).await?;
    Ok(())
}
