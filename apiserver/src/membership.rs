//! Names, URLs and ids of members as etcd has them: pure functions.
//!
//! All members of a new cluster compute the same ids from the same flags, so nobody has to be asked.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use mainstay_engine::cluster::{Initial, MemberInfo};

/// Peer URLs by member's name.
pub type InitialCluster = BTreeMap<String, Vec<String>>;

/// The id of a member: of its peer URLs, and what the cluster is called; for one that is added
/// later, of the time instead, in seconds.
pub fn member_id(peer_urls: &[String], token: &str, added_at: Option<u64>) -> u64 {
    let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut text = urls.concat() + token;
    if let Some(seconds) = added_at {
        text += &seconds.to_string();
    }
    first_number(text.as_bytes())
}

/// The id of a cluster that begins with these members.
pub fn cluster_id(members: &[MemberInfo]) -> u64 {
    let mut ids: Vec<u64> = members.iter().map(|member| member.id).collect();
    ids.sort_unstable();
    let bytes: Vec<u8> = ids.into_iter().flat_map(u64::to_be_bytes).collect();
    first_number(&bytes)
}

/// Not for protection: etcd's ids are made so.
fn first_number(bytes: &[u8]) -> u64 {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    let first = hash.as_ref().first_chunk().expect("a hash has 20 bytes");
    u64::from_be_bytes(*first)
}

/// Checks a peer URL and gives it as etcd does: a scheme, a host, a port, and nothing behind.
pub fn peer_url(text: &str) -> Result<String, String> {
    let text = text.trim();
    let uri = text.parse::<http::Uri>().map_err(|error| format!("{text:?}: {error}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(format!("URL scheme must be http or https: {text}"));
    }
    if uri.port().is_none() || uri.host().is_none_or(str::is_empty) {
        return Err(format!("URL address does not have the form \"host:port\": {text}"));
    }
    if text.ends_with('/') || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(format!("URL must not contain a path: {text}"));
    }
    Ok(text.to_owned())
}

/// Peer URLs, at least one, in order.
pub fn peer_urls<'a>(texts: impl IntoIterator<Item = &'a String>) -> Result<Vec<String>, String> {
    let mut urls: Vec<String> =
        texts.into_iter().map(|text| peer_url(text)).collect::<Result<_, _>>()?;
    if urls.is_empty() {
        return Err("no valid URLs given".to_owned());
    }
    urls.sort_unstable();
    Ok(urls)
}

/// `NAME=URL,NAME=URL,...`; a name may have several URLs.
pub fn parse_initial_cluster(text: &str) -> Result<InitialCluster, String> {
    let mut cluster = InitialCluster::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, url) = part.split_once('=').unwrap_or((part, ""));
        if name.is_empty() || url.is_empty() {
            return Err(format!(
                "empty URL given for {name:?}: must be as in one=http://10.0.0.1:2380"
            ));
        }
        cluster.entry(name.to_owned()).or_default().push(peer_url(url)?);
    }
    match cluster.is_empty() {
        true => Err("must be as in one=http://10.0.0.1:2380,two=http://10.0.0.2:2380".to_owned()),
        false => Ok(cluster),
    }
}

/// As etcd prints it.
fn print(cluster: &InitialCluster) -> String {
    let pairs =
        cluster.iter().flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")));
    pairs.collect::<Vec<_>>().join(",")
}

/// What both ways of beginning want of the flags.
fn check_names(cluster: &InitialCluster, name: &str) -> Result<(), String> {
    if !cluster.contains_key(name) {
        return Err(format!(
            "couldn't find local name {name:?} in the initial cluster configuration"
        ));
    }
    let mut urls: Vec<&String> = cluster.values().flatten().collect();
    let all = urls.len();
    urls.sort_unstable();
    urls.dedup();
    match urls.len() == all {
        true => Ok(()),
        false => Err(format!("initial cluster {} has duplicate url", print(cluster))),
    }
}

/// How a member begins with all others of a new cluster: in etcd's words where it can't.
pub fn new_cluster(
    cluster: &InitialCluster,
    name: &str,
    advertised: &[String],
    token: &str,
) -> Result<Initial, String> {
    check_names(cluster, name)?;
    let own = &cluster[name];
    if let Some(url) = own.iter().find(|url| !advertised.contains(url)) {
        return Err(format!(
            "--initial-cluster has {name}={url} but missing from --initial-advertise-peer-urls={}",
            advertised.join(","),
        ));
    }
    if let Some(url) = advertised.iter().find(|url| !own.contains(url)) {
        return Err(format!(
            "--initial-advertise-peer-urls has {url} but missing from --initial-cluster={}",
            print(cluster),
        ));
    }
    let members: Vec<MemberInfo> = cluster
        .values()
        .map(|urls| MemberInfo {
            id: member_id(urls, token, None),
            // Until it has told so itself.
            name: String::new(),
            peer_urls: sorted(urls),
            client_urls: Vec::new(),
            is_learner: false,
        })
        .collect();
    let member_id = member_id(own, token, None);
    Ok(Initial::New { cluster_id: cluster_id(&members), member_id, members })
}

/// How a member begins that was added to a cluster before.
pub fn existing_cluster(cluster: &InitialCluster, name: &str) -> Result<Initial, String> {
    check_names(cluster, name)?;
    let others = cluster.iter().filter(|(other, _)| *other != name);
    let others: Vec<String> = others.flat_map(|(_, urls)| urls.iter().cloned()).collect();
    match others.is_empty() {
        true => Err(format!(
            "--initial-cluster-state=existing, but --initial-cluster={} names no other member to ask",
            print(cluster),
        )),
        false => Ok(Initial::Join { peer_urls: others }),
    }
}

fn sorted(urls: &[String]) -> Vec<String> {
    let mut urls = urls.to_vec();
    urls.sort_unstable();
    urls
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn initial(text: &str, name: &str, advertised: &[&str], token: &str) -> Initial {
        let cluster = parse_initial_cluster(text).expect("a good text");
        new_cluster(&cluster, name, &strings(advertised), token).expect("good flags")
    }

    /// As etcd itself tells them, started with these flags.
    #[test]
    fn ids_are_those_that_etcd_computes() {
        let alone = initial(
            "default=http://localhost:2380",
            "default",
            &["http://localhost:2380"],
            "etcd-cluster",
        );
        let Initial::New { cluster_id, member_id, members } = alone else { panic!("{alone:?}") };
        assert_eq!((cluster_id, member_id), (0xcdf8_1819_4e3a_8c32, 0x8e9e_05c5_2164_694d));
        assert_eq!(members.len(), 1);

        let text = "b=http://127.0.0.1:24381,b=http://127.0.0.1:24380,a=http://10.1.2.3:2380,\
                    c=http://10.1.2.4:2380";
        let own = ["http://127.0.0.1:24380", "http://127.0.0.1:24381"];
        let three = initial(text, "b", &own, "tkn");
        let Initial::New { cluster_id, member_id, members } = three else { panic!("{three:?}") };
        assert_eq!((cluster_id, member_id), (0x9a74_95fc_5da9_0161, 0x8506_eaf1_d634_dd65));
        let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
        assert_eq!(ids, [0xec0d_09c9_9356_cd99, 0x8506_eaf1_d634_dd65, 0x3d17_3472_2edd_7f40]);
        assert_eq!(members[1].peer_urls, own);
    }

    #[test]
    fn an_added_member_is_another_one_each_second() {
        let urls = strings(&["http://b:1", "http://a:1"]);
        let turned = strings(&["http://a:1", "http://b:1"]);
        assert_eq!(member_id(&urls, "", Some(1)), member_id(&turned, "", Some(1)));
        assert_ne!(member_id(&urls, "", Some(1)), member_id(&urls, "", Some(2)));
        assert_ne!(member_id(&urls, "x", None), member_id(&urls, "y", None));
    }

    #[test]
    fn urls_of_peers() {
        for (text, good) in [
            ("http://127.0.0.1:2380", true),
            (" https://a.example:2380 ", true),
            ("http://[::1]:1", true),
            ("", false),
            ("not a url", false),
            ("127.0.0.1:2380", false),
            ("http://127.0.0.1", false),
            ("http://127.0.0.1:2380/x", false),
            ("http://127.0.0.1:2380/", false),
            ("http://127.0.0.1:2380?x", false),
            ("ftp://127.0.0.1:2380", false),
        ] {
            assert_eq!(peer_url(text).is_ok(), good, "{text}");
        }
        assert!(peer_urls(&[]).is_err());
        let urls = strings(&["http://b:1", "http://a:1"]);
        assert_eq!(peer_urls(&urls), Ok(strings(&["http://a:1", "http://b:1"])));
    }

    #[test]
    fn flags_that_contradict_each_other() {
        for (cluster, name, advertised, expected) in [
            (
                "a=http://a:1,b=http://b:1",
                "c",
                &["http://c:1"][..],
                "couldn't find local name \"c\"",
            ),
            ("a=http://a:1,b=http://a:1", "a", &["http://a:1"], "has duplicate url"),
            (
                "a=http://a:1,a=http://a:2",
                "a",
                &["http://a:1"],
                "--initial-cluster has a=http://a:2 but missing from \
                 --initial-advertise-peer-urls=http://a:1",
            ),
            (
                "a=http://a:1",
                "a",
                &["http://a:1", "http://a:2"],
                "--initial-advertise-peer-urls has http://a:2 but missing from \
                 --initial-cluster=a=http://a:1",
            ),
        ] {
            let parsed = parse_initial_cluster(cluster).expect("a good text");
            let error =
                new_cluster(&parsed, name, &strings(advertised), "t").expect_err("bad flags");
            assert!(error.contains(expected), "{error}");
        }
        for text in ["", ",", "a", "a=", "=http://a:1", "a=a:1"] {
            assert!(parse_initial_cluster(text).is_err(), "{text}");
        }
    }

    #[test]
    fn one_that_joins_asks_the_others() {
        let parsed = parse_initial_cluster("b=http://b:2,a=http://a:1,b=http://b:1").expect("good");
        let expected = Initial::Join { peer_urls: strings(&["http://a:1"]) };
        assert_eq!(existing_cluster(&parsed, "b"), Ok(expected));
        let parsed = parse_initial_cluster("b=http://b:2").expect("good");
        assert!(
            existing_cluster(&parsed, "b").expect_err("nobody to ask").contains("no other member")
        );
    }
}
