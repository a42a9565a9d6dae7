// Reads cases as JSON lines, and prints when robfig/cron fires, as Kubernetes' CronJob controller asks it.
package main

import (
	"bufio"
	"encoding/json"
	"os"
	"time"

	"github.com/robfig/cron/v3"
)

type question struct {
	Cron   string `json:"cron"`
	Zone   string `json:"zone"`
	From   int64  `json:"from"`
	Number int    `json:"number"`
}

type answer struct {
	Refused string  `json:"refused,omitempty"`
	Times   []int64 `json:"times"`
}

func asked(each question) answer {
	schedule, err := cron.ParseStandard("TZ=" + each.Zone + " " + each.Cron)
	if err != nil {
		return answer{Refused: err.Error()}
	}
	found := answer{Times: []int64{}}
	for at := time.Unix(each.From-1, 0); len(found.Times) < each.Number; {
		at = schedule.Next(at)
		if at.IsZero() {
			break
		}
		found.Times = append(found.Times, at.Unix())
	}
	return found
}

func main() {
	lines, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var each question
		if err := json.Unmarshal(lines.Bytes(), &each); err != nil {
			panic(err)
		}
		if err := out.Encode(asked(each)); err != nil {
			panic(err)
		}
	}
}
