# A real Kafka broker on this machine: what `make test-kafka` needs, and one to try things with.
# Included by the Makefile at the root; paths are relative to it.

KAFKA_PYTHON ?= .venv/bin/python
KAFKA_FOLDER ?= .kafka
KAFKA_PORT ?= 9092

.PHONY: kafka-jars kafka

kafka-jars: deploy/kafka/lib/.complete ## Fetch the broker's jars (43 MB, once)

# The empty file is the last step: a fetch that broke off is done again, and a new version in the pom replaces the lot.
deploy/kafka/lib/.complete: deploy/kafka/pom.xml
	@command -v java >/dev/null || { echo "kafka-jars: no java on the path; install Java 17 or newer (Debian: apt-get install openjdk-17-jre-headless)" >&2; exit 1; }
	@command -v mvn >/dev/null || { echo "kafka-jars: no mvn on the path; install Maven (Debian: apt-get install maven)" >&2; exit 1; }
	rm -rf deploy/kafka/lib
	mvn -q -B -f deploy/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory=lib
	@touch $@

kafka: kafka-jars ## Run one broker in the foreground: KAFKA_FOLDER=.kafka KAFKA_PORT=9092
	@exec $(KAFKA_PYTHON) deploy/kafka/run.py --folder $(KAFKA_FOLDER) --port $(KAFKA_PORT)
