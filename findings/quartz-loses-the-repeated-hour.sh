#!/bin/sh
# Quartz 2.5.2: a schedule that fires every 20 minutes pauses for 80 minutes when summer time ends.
#
# An expression with */20, or one for each hour, names times of the wall clock. In Europe/Berlin the hour from 02:00 to 03:00
# comes twice on 2026-10-25 (00:00 to 02:00 UTC). Seen: from 23:40 UTC, CronExpression goes on at 01:00 UTC, so nothing fires
# while that hour passes for the first time. The hourly schedule lacks one hour. Quartz 2.3.2 does the same.
#
# docs/timers.md has it in its table. Exits with 0 while this is so. Needs a JDK of 17 or newer, and curl.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
central=https://repo1.maven.org/maven2
curl --fail --silent --show-error -o quartz.jar "$central/org/quartz-scheduler/quartz/2.5.2/quartz-2.5.2.jar"
curl --fail --silent --show-error -o slf4j.jar "$central/org/slf4j/slf4j-api/2.0.17/slf4j-api-2.0.17.jar"
cat >Check.java <<'JAVA'
import java.time.Instant;
import java.util.ArrayList;
import java.util.Date;
import java.util.List;
import java.util.TimeZone;
import org.quartz.CronExpression;

public class Check {
    static List<String> after(String expression, String from, int number) throws Exception {
        CronExpression schedule = new CronExpression(expression);
        schedule.setTimeZone(TimeZone.getTimeZone("Europe/Berlin"));
        List<String> times = new ArrayList<>();
        Date at = Date.from(Instant.parse(from));
        for (int i = 0; i < number; i++) {
            at = schedule.getNextValidTimeAfter(at);
            times.add(at.toInstant().toString().substring(11, 16));
        }
        return times;
    }

    public static void main(String[] arguments) throws Exception {
        List<String> often = after("0 0/20 * * * ?", "2026-10-24T23:10:00Z", 4);
        List<String> hourly = after("0 0 * * * ?", "2026-10-24T22:30:00Z", 3);
        System.out.println("Quartz 2.5.2: every 20 minutes: " + often + ", every hour: " + hourly);
        boolean same = often.equals(List.of("23:20", "23:40", "01:00", "01:20"))
            && hourly.equals(List.of("23:00", "01:00", "02:00"));
        System.exit(same ? 0 : 1);
    }
}
JAVA
java -cp quartz.jar:slf4j.jar Check.java
