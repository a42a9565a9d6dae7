// Command clients is kubectl, Helm and kind in one program, chosen by the name it is started with.
//
// It is apart from the servers because people and tests start it hundreds of times: without the
// servers' packages to initialise it starts in a fraction of the time.
package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	helm "helm.sh/helm/v4/pkg/cmd"
	"helm.sh/helm/v4/pkg/kube"
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	"sigs.k8s.io/kind/cmd/kind/app"
)

func runKubectl() int {
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err) // prints the way kubectl does and exits
	}
	return 0
}

func runHelm() int {
	kube.ManagedFieldsManager = "helm" // whatever this program is called
	command, err := helm.NewRootCmd(os.Stdout, os.Args[1:], helm.SetupLogging)
	if err != nil {
		slog.Error("command failed", "error", err)
		return 1
	}
	if err := command.Execute(); err != nil {
		if exit, ok := err.(helm.CommandError); ok {
			return exit.ExitCode
		}
		return 1
	}
	return 0
}

func main() {
	switch filepath.Base(os.Args[0]) {
	case "kubectl":
		os.Exit(runKubectl())
	case "helm":
		os.Exit(runHelm())
	case "kind":
		app.Main()
	default:
		fmt.Fprintln(os.Stderr, "clients: start it as kubectl, helm or kind (through a symbolic link)")
		os.Exit(2)
	}
}
