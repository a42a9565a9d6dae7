// Reads questions as JSON lines, and prints what the CEL library of Kubernetes' policies makes of each: whether it compiles,
// and for each object the value as JSON, or nothing where it has none.
package main

import (
	"bufio"
	stdjson "encoding/json"
	"os"
	"reflect"

	"github.com/google/cel-go/cel"
	"google.golang.org/protobuf/types/known/structpb"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/cel/environment"
)

type question struct {
	Expression string               `json:"expression"`
	Objects    []stdjson.RawMessage `json:"objects"`
}

type answer struct {
	Refused string    `json:"refused,omitempty"`
	Values  []*string `json:"values"`
}

func environmentOfPolicies() *cel.Env {
	set, err := environment.MustBaseEnvSet(version.MajorMinor(1, 35)).Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0),
		EnvOptions:        []cel.EnvOption{cel.Variable("object", cel.DynType), cel.Variable("oldObject", cel.DynType)},
	})
	if err != nil {
		panic(err)
	}
	return set.StoredExpressionsEnv()
}

func asked(env *cel.Env, each question) answer {
	ast, issues := env.Compile(each.Expression)
	if issues != nil {
		return answer{Refused: issues.String()}
	}
	program, err := env.Program(ast, cel.CostLimit(10_000_000))
	if err != nil {
		return answer{Refused: err.Error()}
	}
	found := answer{}
	for _, text := range each.Objects {
		var object any
		if err := json.Unmarshal(text, &object); err != nil { // whole numbers are integers, as in the API server
			panic(err)
		}
		found.Values = append(found.Values, evaluated(program, object))
	}
	return found
}

func evaluated(program cel.Program, object any) *string {
	value, _, err := program.Eval(map[string]any{"object": object, "oldObject": nil})
	if err != nil {
		return nil
	}
	native, err := value.ConvertToNative(reflect.TypeOf(&structpb.Value{}))
	if err != nil {
		return nil
	}
	text, err := native.(*structpb.Value).MarshalJSON()
	if err != nil {
		return nil
	}
	result := string(text)
	return &result
}

func main() {
	env := environmentOfPolicies()
	lines, out := bufio.NewScanner(os.Stdin), stdjson.NewEncoder(os.Stdout)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var each question
		if err := stdjson.Unmarshal(lines.Bytes(), &each); err != nil {
			panic(err)
		}
		if err := out.Encode(asked(env, each)); err != nil {
			panic(err)
		}
	}
}
