//! The administrator's kubeconfig.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A kubeconfig that holds its certificates: one file to copy.
pub(super) fn render(server: &str, authority: &[u8], certificate: &[u8], key: &[u8]) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: mainstay
  cluster:
    server: {server}
    certificate-authority-data: {}
users:
- name: kubernetes-admin
  user:
    client-certificate-data: {}
    client-key-data: {}
contexts:
- name: kubernetes-admin@mainstay
  context:
    cluster: mainstay
    user: kubernetes-admin
current-context: kubernetes-admin@mainstay
preferences: {{}}
",
        STANDARD.encode(authority),
        STANDARD.encode(certificate),
        STANDARD.encode(key),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_is_complete() {
        let text = render("https://127.0.0.1:6443", b"a", b"b", b"c");
        let value: serde_json::Value = serde_saphyr::from_str(&text).expect("YAML");
        assert_eq!(value["clusters"][0]["cluster"]["server"], "https://127.0.0.1:6443");
        assert_eq!(value["clusters"][0]["cluster"]["certificate-authority-data"], "YQ==");
        assert_eq!(value["users"][0]["user"]["client-key-data"], "Yw==");
        assert_eq!(value["current-context"], value["contexts"][0]["name"]);
    }
}
