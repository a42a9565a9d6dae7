import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Date;
import java.util.TimeZone;
import org.quartz.CronExpression;

/** Reads cases as lines of zone, seconds since 1970, number, and expression, and prints when Quartz fires. */
public class Quartz {
  public static void main(String[] arguments) throws Exception {
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      String[] parts = line.split(" ", 4);
      StringBuilder found = new StringBuilder();
      try {
        CronExpression expression = new CronExpression(parts[3]);
        expression.setTimeZone(TimeZone.getTimeZone(parts[0]));
        Date at = new Date((Long.parseLong(parts[1]) - 1) * 1000);
        for (int number = Integer.parseInt(parts[2]); number > 0; number--) {
          at = expression.getNextValidTimeAfter(at);
          if (at == null) break;
          found.append(found.length() > 0 ? "," : "").append(at.getTime() / 1000);
        }
        System.out.println("{\"times\": [" + found + "]}");
      } catch (java.text.ParseException | UnsupportedOperationException problem) {
        System.out.println("{\"refused\": \"" + problem.getMessage().replace("\"", "'") + "\"}");
      }
    }
  }
}
