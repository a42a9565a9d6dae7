// Says what tools that wait for Kubernetes objects make of each object on standard input (JSON, one a line): kstatus in
// the module that Helm uses and in the one that Flux uses, Argo CD's own health assessment, Argo CD with our Lua scripts
// (--lua KIND=FILE), and Flux with our CEL expressions (--exprs KIND=FILE). It prints one JSON object a line.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	argohealth "github.com/argoproj/argo-cd/gitops-engine/pkg/health"
	fluxstatus "github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	fluxcel "github.com/fluxcd/pkg/runtime/cel"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	helmstatus "sigs.k8s.io/cli-utils/pkg/kstatus/status"
	luajson "layeh.com/gopher-json"
	"sigs.k8s.io/yaml"
)

type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	scripts, expressions := map[string]string{}, map[string]*fluxcel.StatusEvaluator{}
	for len(arguments) >= 2 {
		kind, file, _ := strings.Cut(arguments[1], "=")
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		switch arguments[0] {
		case "--lua":
			scripts[kind] = string(text)
		case "--exprs":
			var checks []kustomize.CustomHealthCheck
			if err := yaml.UnmarshalStrict(text, &checks); err != nil {
				return err
			}
			for _, check := range checks {
				evaluator, err := fluxcel.NewStatusEvaluator(&check.HealthCheckExpressions)
				if err != nil {
					return err
				}
				expressions[check.Kind] = evaluator
			}
		}
		arguments = arguments[2:]
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<22)
	for lines.Scan() {
		var object unstructured.Unstructured
		if err := object.UnmarshalJSON(lines.Bytes()); err != nil {
			return err
		}
		found, err := judge(&object, scripts, expressions)
		if err != nil {
			return err
		}
		text, _ := json.Marshal(found)
		fmt.Println(string(text))
	}
	return lines.Err()
}

func judge(object *unstructured.Unstructured, scripts map[string]string, expressions map[string]*fluxcel.StatusEvaluator) (map[string]verdict, error) {
	result := map[string]verdict{}
	byHelm, err := helmstatus.Compute(object)
	if err != nil {
		return nil, err
	}
	result["helm"] = verdict{string(byHelm.Status), byHelm.Message}
	byFlux, err := fluxstatus.Compute(object)
	if err != nil {
		return nil, err
	}
	result["flux"] = verdict{string(byFlux.Status), byFlux.Message}
	byArgo, err := argohealth.GetResourceHealth(object, nil)
	if err != nil {
		return nil, err
	}
	result["argo"] = verdict{"none", ""}
	if byArgo != nil {
		result["argo"] = verdict{string(byArgo.Status), byArgo.Message}
	}
	if script, given := scripts[object.GetKind()]; given {
		if result["argo-lua"], err = byLua(object, script); err != nil {
			return nil, err
		}
	}
	if evaluator, given := expressions[object.GetKind()]; given {
		byExpression, err := evaluator.Evaluate(context.Background(), object)
		if err != nil {
			return nil, err
		}
		result["flux-exprs"] = verdict{string(byExpression.Status), byExpression.Message}
	}
	return result, nil
}

// As Argo CD's util/lua does: the same interpreter without libraries, the object as the global obj.
func byLua(object *unstructured.Unstructured, script string) (verdict, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable, lua.StringLibName: lua.OpenString,
	} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			return verdict{}, err
		}
	}
	text, err := json.Marshal(object.Object)
	if err != nil {
		return verdict{}, err
	}
	value, err := luajson.Decode(state, text)
	if err != nil {
		return verdict{}, err
	}
	state.SetGlobal("obj", value)
	if err := state.DoString(script); err != nil {
		return verdict{}, err
	}
	answer, err := luajson.Encode(state.Get(-1))
	if err != nil {
		return verdict{}, err
	}
	var found verdict
	return found, json.Unmarshal(answer, &found)
}
