// Command kubestack is every server of a Kubernetes node in one program.
//
// It behaves as the program whose name it was started by (a symbolic link `kubelet` runs the
// kubelet), or as the one named by its first argument. One program instead of eight because
// linking is what costs time once packages are compiled: they share nearly all of their code, so
// one link of 150 MB replaces eight of up to 100 MB each.
//
// Only the chosen component's command is constructed: components register flags, metrics and
// feature gates in process-wide registries when their command is made, and two in one process
// would collide.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	_ "time/tzdata"

	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/ready"
	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// cobraCommand runs a component that is a cobra command, the way its own main() does.
func cobraCommand(build func() *cobra.Command) func() int {
	return func() int { return cli.Run(build()) }
}

var components = map[string]func() int{
	"kube-apiserver":          cobraCommand(apiserver.NewAPIServerCommand),
	"kube-controller-manager": cobraCommand(controllermanager.NewControllerManagerCommand),
	"kube-scheduler":          cobraCommand(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kube-proxy":              cobraCommand(proxy.NewProxyCommand),
	"kubelet": cobraCommand(func() *cobra.Command {
		return kubelet.NewKubeletCommand(context.Background())
	}),
	"coredns": func() int { coremain.Run(); return 0 },
	"etcd":    func() int { etcdmain.Main(os.Args); return 0 },
}

func main() {
	name := filepath.Base(os.Args[0])
	run, known := components[name]
	if !known && len(os.Args) > 1 {
		name = os.Args[1]
		if run, known = components[name]; known {
			os.Args = os.Args[1:]
		}
	}
	if !known {
		names := make([]string, 0, len(components))
		for component := range components {
			names = append(names, component)
		}
		sort.Strings(names)
		fmt.Fprintf(os.Stderr, "kubestack: name a component: %s\n", strings.Join(names, ", "))
		os.Exit(2)
	}
	os.Exit(run())
}
