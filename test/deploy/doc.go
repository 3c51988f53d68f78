// Package deploy holds tests of what stands in deploy/: units, images, the
// Compose file and firewall rules, each as far as programs of this machine can
// judge it. It owns no code of the product.
package deploy
