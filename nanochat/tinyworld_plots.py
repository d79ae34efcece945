"""The stories, dialogues, instructions and letters of the tiny world, as templates.

A template is a text of lines. Each line is one step and is told in one of its variants, which ' | ' parts; a line that begins with '?'
is left out half of the time; an empty line begins a new paragraph. {Fields} are filled from a scene (see tinyworld.Scene): {H} is the hero,
{F} a friend, {M} a grown-up, with {he} {his} {him} for the hero, {fhe} {fhis} {fhim} for the friend, {mhe} {mhis} {mhim} for the grown-up;
{pet} and {Pet} are the kind and the name of the hero's pet. One scene holds for a whole text, so what is true on the first line stays true.
"""

STORIES = (
    """Where Is {Pet}? | {H} and the Missing {Petkind} | The Day {Pet} Hid

One {weather} {day} morning, {H} could not find {Pet}, {his} {pet}. | {H} had {a_pet} named {Pet}, and one {day} morning {Pet} was gone. | "{Pet}! Where are you?" called {H}. It was {day}, and the little {pet} was not in its bed.
? {H} was a {trait} {kind}, and {he} did not give up easily. | Everyone in Fernhill knew that {H} was {trait}.
First {he} looked {place}. No {pet} was there. | {He} went to look {place} first, but {Pet} was not there. | {He} searched {place}, and found only {a_junk}.
Then {he} looked {place2}, but {he} found only {a_junk2}. | Next {he} tried {place2}. All {he} found was {a_junk2}.

{F} came by and asked, "What is wrong?" | Just then {F} came down the road. "Why do you look so sad?" asked {F}. | {F}, who lived next door, heard {him} calling.
"{Pet} is gone," said {H}. "I have looked {place} and {place2}." | "I cannot find {Pet}," said {H}. "{Pet} is not {place}, and not {place2}."
"Let us think," said {F}. "What does {Pet} like best?" | {F} thought for a moment. "Where would you go if you were {a_pet}?" {fhe} asked.
? "{Pet} likes to sleep where it is warm," said {H}. | "{Pet} likes quiet places," said {H}.

So they walked together and looked {place3}. | Together they went to look {place3}. | Hand in hand they crept up to look {place3}.
And there was {Pet}, fast asleep! | There sat {Pet}, looking very pleased. | Two bright eyes looked out at them. It was {Pet}!
{H} laughed and held {Pet} close. "You were {place3} all the time!" {he} said. | "So this is where you were," said {H}, and {he} was so happy that {he} danced.
{H} thanked {F}, and they shared {food} at home. | "Thank you for helping me," {H} said to {F}. | From then on, whenever {Pet} was gone, {H} looked {place3} first.""",
    """The {Color} {Thing} | A {Thing} for {F} | {H} Gives Something Away

{H} had a {color} {thing}. It was {his} favorite because {color} was {his} favorite color. | Of all the things {H} owned, {he} loved {his} {color} {thing} best.
{He} took it everywhere, even to school. | Every day {he} carried it with {him}. | At night {he} put it beside {his} bed.
One {day}, {F} looked sad. "I lost my own {thing}," said {F}. "I looked everywhere." | On {day}, {H} met {F} near the {spot}. {F} was crying, because {fhis} {thing} had fallen into the river.

{H} looked at {his} {color} {thing}. {He} thought for a long time. | {H} did not know what to say. {He} held the {color} {thing} tight and thought.
Then {he} held it out. "You can have mine," {he} said. | At last {he} smiled. "Please take this one," said {H}.
"But it is your favorite!" said {F}. | {F} could not believe it. "Are you sure?" {fhe} asked.
"I am sure," said {H}. "A friend is better than a {thing}." | "Yes," said {H}. "It is more fun to give than to keep."

{F} hugged {him} and ran home with the {color} {thing}. | {F} smiled for the first time that day.
The next week, {F} came back with a box. | On {H}'s birthday, a box stood at {his} door.
Inside was a new {color} {thing}, made by {M}, the {mjob}, and with it came a card. | In the box {H} found a {color} {thing}, just like the old one, and a card from {F}.
The card said: "For the most {trait} friend in Fernhill." | Now they both had a {color} {thing}, and they were both happy.""",
    """The Big Storm | When the Wind Came | A Night Without Lamps

It was a {day} in {month}. The sky over Fernhill turned dark. | One evening in {month}, black clouds came over the hills.
The wind began to blow, and the rain fell harder and harder. | First came the wind, then the rain, and then the thunder.
{H} stood at the window with {Pet}, {his} {pet}. | {H} and {his} {pet} {Pet} sat close together by the stove.
? "Do not be afraid," {H} told {Pet}, although {he} was a little afraid {himself}. | {Pet} hid under the blanket.

Suddenly all the lamps in the village went out. | Then there was a loud crack, and a tree fell across the road.
{H} remembered {M}, the {mjob}, who lived alone near the {spot}. | "Somebody should look after {M}," said {H}. {M} was the {mjob}, and {mhis} house stood near the {spot}.
{He} put on {his} {color} coat, took a lantern, and went out into the rain. | {He} took a lantern and a rope and walked out into the storm in {his} {color} coat.
"Who is there?" called {M}. "It is {H}," said {he}. "I came to see if you are well." | {M} opened the door. "{H}! You came out in this weather?" {mhe} said.
The water was already at the door, so they carried {number} sacks of sand and put them in front of it. | A window was broken, so they closed it with a board and {number} nails.
Then they sat by the fire and ate {food}. | Then {M} made hot tea, and they told each other stories until the thunder was far away.

In the morning the sun came out, and everything was wet and shining. | When morning came, the storm was over.
"You are a {trait} {kind}," said {M}. "I will not forget it." | "Thank you, {H}," said {M}. "Good neighbors are better than good weather."
And that is how {H} and {M} became friends. | {H} walked home through the puddles and slept until noon.""",
    """The Race to the {Spot} | {H} and {F} Run a Race | Who Is the Fastest?

"I am the fastest runner in Fernhill," said {F}. | {F} could run very fast and liked to say so.
{H} was not fast, but {he} never gave up. | {H} was slower, but {he} ran every morning before school.
"Let us race to the {spot} on {day}," said {H}. | "On {day} we will see," said {H}. "We will run to the {spot}."

On {day} all the children came to watch. {M}, the {mjob}, counted: "Three, two, one, go!" | When {day} came, {M} the {mjob} held up a {color} flag. "One, two, three, go!" {mhe} called.
{F} ran ahead at once. Soon {fhe} was far in front. | {F} was off like the wind, and {H} ran behind.
Halfway there, {F} sat down under a tree to rest. "I have plenty of time," {fhe} said. | Then {F} saw a bush full of berries. "I can stop for a moment," {fhe} thought.
{H} did not stop. Step by step {he} came closer. | But {H} kept going, one foot and then the other.
One minute went by, and then another, and {F} forgot about the race. | It was so nice there that {F} forgot all about the race.
When {F} looked up, {H} was almost at the {spot}! | Suddenly {F} heard the children cheer. {H} had reached the {spot}!

{F} jumped up and ran, but it was too late. {H} had won. | {H} won the race by {number} steps.
"You are still faster than I am," said {H}. "But I did not stop." | "Fast is good," said {M}, "but steady is better."
{F} laughed and shook {his} hand. | {F} was a good loser. "Next time I will not stop," {fhe} said, and they both laughed.""",
    """{H} Plants a Garden | {Number} Little Seeds | The {Color} Flowers

In spring, {M} gave {H} {number} seeds. | {M}, the {mjob}, gave {H} a bag with {number} seeds.
"What will they be?" asked {H}. "Wait and see," said {M}. | "If you take care of them, you will be surprised," said {M}.
{H} dug {number} holes behind the house and put one seed in each hole. | {H} took a spade, dug {number} small holes, and dropped one seed into each.
Then {he} covered them with soil and gave them water. | {He} covered the seeds with warm soil and watered them.

Every morning {he} went out to look. On the first day there was nothing. | The next day {he} looked, but {he} saw only soil.
On the second day there was nothing. | A day later there was still nothing to see.
? {F} said, "Maybe the seeds are asleep." | ? "Are you sure you did it right?" asked {F}.
"Seeds need water, warm soil, and time," said {M}. "Be patient." | {M} smiled. "You cannot hurry a seed," {mhe} said.
After a week, {H} saw a tiny green leaf. Then another, and another! | And then, one {weather} morning, there were {number} green leaves in a row.
The plants grew taller and taller. | Week by week the plants grew, first as high as a hand, then as high as a knee.

In summer the flowers opened. They were {color}, all {number} of them. | By summer there were {number} {color} flowers behind the house.
"{Color} is my favorite color!" cried {H}. | "They are {color}!" said {H}. {Color} was {his} favorite color.
{He} picked one flower and gave it to {M}. | {He} gave the first flower to {M}, and kept some seeds for next spring.""",
    """The Little {Animal} by the {Spot} | {H} Helps {a_animal} | A Cry for Help

{H} and {F} were walking near the {spot} when they heard a small cry. | One {weather} {day}, {H} heard a strange sound near the {spot}.
A little {animal} had one foot caught in a net. | A small {animal} had one foot caught between two stones. | There was a young {animal}, and its foot was caught under a branch.
"Poor thing," said {H}. "We must help it." | "It is hurt," said {H}. "We must be very gentle."
The {animal} was afraid and tried to get away. | The {animal} looked at them with big, frightened eyes.
? "Stay calm," whispered {F}. "We are friends." | ? {F} wanted to run for help, but {H} said there was no time.

{H} spoke softly and moved slowly, until the {animal} was quiet. | {H}, who was {trait}, sat down and waited until the {animal} was calm.
Then {he} set it free with {his} own two hands. | With slow and careful hands, {he} set it free. | Then, very carefully, {he} freed the little foot.
They took it to {M}, the {mjob}, who washed the foot and gave the {animal} some water. | They carried it to {M}, the {mjob}. "It needs rest and good food," said {M}.
"What does {a_animal} eat?" asked {F}. "{A_animal} eats {eats}," said {M}. | "Bring it some {eats}," said {M}. "That is what it likes."
They found some {eats}, and the {animal} ate and ate. | {H} went to look for {eats}, and soon the {animal} was eating.

After {number} days the foot was well, and they took the {animal} back to the {spot}. | It stayed for {number} days. Then it was strong enough to go home.
It looked back once, and then it was gone. | The {animal} ran a few steps, turned its head as if to say thank you, and was gone.
"Will it remember us?" asked {F}. "I think so," said {H}. | {H} missed it a little, but {he} was glad that it was free.""",
    """Market Day | {H} Goes to the Market | What {H} Bought

On {day}, {H} went to the market with {coins} coins in {his} pocket. | It was market day in Fernhill, and {H} had {coins} coins to spend.
"Please bring {goods}," said {his} mother. | {His} father had asked {him} to buy {goods}.
The market was full of people. {M}, the {mjob}, waved to {him}. | There was so much to see! {M}, the {mjob}, was there too, and so was {F}.
The {goods} cost {price} coins. {H} paid, and {left} coins were left. | {H} found {goods} for {price} coins. {coins} minus {price} is {left}, so {he} still had {left} coins.

On the way back, {he} saw a {color} {thing}. It was very pretty. | Then {H} saw it: a {color} {thing}, the nicest in the market. {Color} was {his} favorite color.
"How much is it?" {he} asked. "{price2} coins," said the seller. | "That will be {price2} coins," said the woman behind the table.
{coinresult}

{H} went home with the {goods} in {his} basket. | With the {goods} in {his} basket, {he} walked home.
? "What did you learn today?" asked {M} on the way. "To count my coins," said {H}. | ? That evening they all ate {food} together.""",
    """The Broken Window | {H} Tells the Truth | An Honest {Kind}

{H} and {F} were playing with a ball near the house of {M}, the {mjob}. | One {day}, {H} and {F} were kicking a {color} ball near the house of {M}, the {mjob}.
{H} kicked too hard. Crash! The ball went right through the window. | {H} kicked with all {his} strength. The ball flew over the fence, and then there was the sound of breaking glass.
"Run!" said {F}. "Nobody saw us." | {F} turned pale. "We should go home before anyone comes," {fhe} said.
But {H} did not run. {His} heart beat fast. | {H} wanted to run too, but {his} feet did not move.
"It was an accident," {he} said, "but I broke it. I have to say so." | "No," said {H}. "If we run, {M} will never know what happened."

{He} knocked on the door. {M} opened it. | {H} walked to the door and knocked.
"I am sorry," said {H}. "My ball broke your window." | "I broke your window with my ball," said {H}. "I am very sorry, and I want to make it good."
{M} looked at {him} for a long time. Then {mhe} smiled. | For a moment {M} said nothing. Then {mhe} put a hand on {his} shoulder.
"A window is only glass," said {M}. "It is harder to find someone honest." | "Thank you for telling me the truth," said {M}. "That took courage."
For {number} days {H} helped {M} after school, until the window was paid for. | {H} and {F} helped to sweep up the glass, and on {day2} they helped to put in a new window.

{F} was ashamed. "Next time I will stay too," {fhe} said. | "You were braver than I was," said {F}.
And {M} gave them back the ball. | Since that day, {M} has always had time for the two children.""",
    """The New {Fkind} at School | A Friend for {F} | {F} Comes to Fernhill School

{F} was {ftrait} and did not talk much at school. | At school, {F} always sat alone under the big tree.
"Why does {F} never play with us?" asked {H}. | {H} saw it and thought about it.
"Maybe nobody asked," said {M}, the {mjob}. | "Some people need time," {M} told {him}.
So on {day}, {H} sat down next to {F}. | The next day, {H} took {his} lunch and sat down under the tree too.

"I have {food}," said {H}. "Would you like some?" | "Would you like to share my lunch?" asked {H}. "It is {food}."
{F} looked up. "I like {ffood} better," {fhe} said quietly, "but thank you." | {F} nodded, and they ate without saying a word.
"What do you like to do?" asked {H}. | After a while, {H} asked, "What do you do after school?"
"I like {fhobby}," said {F}. "Really?" said {H}. "Can you show me?" | {F} smiled a little. "{Fhobby}," {fhe} said. "It is my favorite thing."
"And I like {hobby}," said {H}. "We could do both." | "I like {hobby}," said {H}. "Tomorrow you show me yours, and I show you mine."

From that day on, they were friends. | After that, {F} did not sit alone anymore.
One day it was {hobby}, and the next day it was {fhobby}. | On {day2}, {F} even laughed out loud, and the whole class turned around and smiled.
? {M} saw them and was glad. | ? "You see," said {M}, "it was not so hard." """,
    """The Bridge | How {H} and {F} Crossed the River | Two Ideas

{H} and {F} wanted to visit {M}, the {mjob}, but the bridge was gone. | After the rain, the little bridge to the {spot} was broken.
The river was wide and cold. | "How can we get across?" asked {F}. The water was deep.
"We could swim," said {F}. "The water is too cold," said {H}. | {F} wanted to jump, but the river was too wide.
"We could make a bridge out of wood," said {H}. | "Let us build something," said {H}.

Behind a barn lay {number} old boards, and they carried them to the river. | They looked for wood and found {number} long branches.
The first try did not work. Splash! {F} was wet up to the knees. | At first everything fell into the water, and they had to start again.
"We should think before we try again," said {H}. | "Try once more," said {H}, who was {trait}.
{F} had an idea. "The heavy ones must go first, and the light ones on top." | "If we tie them together, they will hold," said {F}.
This time it was strong, and they walked across, one after the other. | So they tried it that way, and it worked. {H} went first, and {F} came after {him}.

On the other side, {M} was waiting. "How did you get here?" {mhe} asked. | {M} was surprised to see them. "Did you fly?" {mhe} asked.
"With two ideas," said {H}. "One was mine, and one was {F}'s." | "We built a bridge," they said, "and it only fell down once."
{M} gave them {food}, and they dried their shoes by the fire. | {M} laughed and gave them dry socks and warm {food}.""",
    """Under the Stars | {H} Cannot Sleep | The Night Walk

One night {H} could not sleep. {He} looked out of the window. | It was a clear night in {month}, and {H} was still awake.
The moon stood over the {spot}, round and white. | Thousands of stars were shining over Fernhill.
{He} woke {his} {pet} {Pet}, and they went outside together. | {He} put on {his} {color} coat and went out. {Pet}, the {pet}, came along.
In the garden stood {M}, the {mjob}, with a telescope. | {M}, the {mjob}, was sitting on a bench. "You cannot sleep either?" {mhe} asked.

"What is that bright point?" asked {H}. "That is {planet}," said {M}. "It is a planet, not a star." | "Look through here," said {M}. "That one is {planet}."
"Is it far away?" asked {H}. "Very far," said {M}. "{planetfact}" | "Tell me about it," said {H}. And {M} said, "{planetfact}"
"And what is the sun?" "The sun is a star," said {M}. "It only looks bigger because it is near." | "Why do the stars shine only at night?" asked {H}. "They shine all day," said {M}, "but the sun is so bright that we cannot see them."
? "I want to go there one day," said {H}. | ? {H} counted the stars up to a hundred, and then {he} lost count.

A cool wind came up, and {H} began to yawn. | Slowly {his} eyes grew heavy.
{M} brought {him} to {his} door. "Good night, {H}," {mhe} said. | "Time for bed," said {M}. "The stars will be there tomorrow."
{H} dreamed of {planet} all night. | That night {H} flew to {planet} in a dream, and {Pet} flew with {him}.""",
    """The Fox and the {Fabled} | A Fable | The Clever {Fabled}

A hungry fox met {a_fabled} near the {spot}. | Once upon a time, a fox lived near the {spot}. One day it met {a_fabled}.
"You are just in time for dinner," said the fox. | "I have not eaten for {number} days," said the fox. "I think I will eat you."
The {fabled} was afraid, but it did not show it. | The {fabled} knew that it could not run fast enough. So it had to think.
"I am so thin," it said. "Let me eat some {fabledeats} first. On {day} I will come back, round and fat." | "What a pity," it said, "that you will never hear my song."

"Do you think I am a fool?" asked the fox. | "I do not trust you," said the fox. "I am no fool."
"No," said the {fabled}. "Everyone says that you are the wisest animal of all." | "A fool? You?" said the {fabled}. "All the animals talk about how clever you are."
The fox was proud to hear this. It closed its eyes to enjoy the words. | When the fox heard this, it smiled, closed its eyes, and lifted its nose into the air.
"Go on," it said. "What else do they say?" | "And what do they say about my tail?" it asked.
But while the eyes of the fox were closed, the {fabled} ran away. | But nobody answered. When the fox opened its eyes, it was alone.

{moral}""",
    """The Fox at the {Spot} | The Other Fox | The {Fabled} Who Was Not Eaten

One {weather} {day}, {a_fabled} came to the {spot} to drink. | {A_fabled} was looking for {fabledeats} when a fox jumped out of the bushes.
"Now I have you," said the fox. | "Good morning, my breakfast," said the fox.
"Wait," said the {fabled}. "I belong to another fox, and it is stronger than you." | "I would not do that," said the {fabled}. "The other fox will be angry."
"Another fox? Where?" | "What other fox?" asked the fox. "Show me!"
The {fabled} led it to the water. "Look down there," it said. | So they walked to the water. "There it lives," said the {fabled}.

The fox looked down and saw a fox that looked just as hungry. | And really, a fox looked up out of the water.
It showed its teeth, and the other fox showed its teeth too. | It growled, and the other one seemed to growl as well.
"I will teach you!" cried the fox, and jumped. Splash! | Then it jumped at the other fox with all its strength. Splash!
It was only its own picture in the water. | But there was no other fox. There was only cold water.
When the wet fox came out, the {fabled} was far away. | And when it had climbed out, cold and wet, the {fabled} was gone.

{moral}""",
    """The Biggest Cake in Fernhill | Baking Day | {H} Bakes With {M}

{F}'s birthday was on {day}. "I want to bake a cake," said {H}. | {H} wanted to bake a cake for {F}, because it was {fhis} birthday.
{He} asked {M}, the {mjob}, for help. | {M}, the {mjob}, said, "I will help you, but you do the work."
They took {number} eggs, flour, sugar, milk, and butter. | First they put flour and sugar into a bowl. Then came {number} eggs, some milk, and some butter.
{H} mixed everything with a wooden spoon. | {H} stirred until {his} arm was tired.
? {Pet}, {his} {pet}, got flour on its nose. | ? There was flour on the table, on the floor, and on {Pet}.

They put the cake into the oven and waited. | "Now it must bake for an hour," said {M}. "An hour has sixty minutes."
{H} looked through the little window every minute. "Is it ready now?" "Not yet," said {M}. | To wait is hard. {H} asked {number} times if the cake was ready.
At last it was brown and smelled wonderful. | Then a sweet smell filled the kitchen, and the cake was done.
They painted it with {fcolor} sugar, because {fcolor} was {F}'s favorite color. | {H} wrote {F}'s name on it with {fcolor} sugar.

On {day}, {H} carried the cake to {F}. | When {F} opened the door and saw the cake, {fhe} jumped for joy.
"Did you make this yourself?" asked {F}. "{M} helped me," said {H}. | "It is the best cake of my life," said {F}.
They cut it into {share} pieces for {people} people, so everyone got {each}. | There were {people} people and {share} pieces, so each of them got {each} pieces.""",
    """The Treasure Hunt | {M}'s Riddles | Three Clues

{M}, the {mjob}, had hidden a treasure. "Who is clever enough to find it?" {mhe} asked. | On {day}, {M} gave {H} and {F} a piece of paper with a riddle on it.
{H} and {F} wanted to try. | "We are!" cried {H} and {F}.
The first riddle said: "{riddle}" | On the paper stood: "{riddle}"
"I know it!" said {H}. "It is {riddle_answer}!" | {F} scratched {fhis} head. But {H} knew the answer: "{Riddle_answer}!"

So they went to look {place}, and there they found a second paper. | Next to {riddle_answer}, which {M} had painted on a wall, they found the second clue.
It said: "{riddle2}" | "Listen," said {F}, and read: "{riddle2}"
This time {F} was faster. "{Riddle_answer2}!" {fhe} said. | They thought and thought. "{Riddle_answer2}!" they said at the same time.
The last clue was short: "Look {place2}." | With it came a third paper. It said only: "Now look {place2}."
They ran as fast as they could. | They looked at each other and ran.

There stood a box, and in the box were {number} apples and a {color} {thing}. | {Place2} they found a box with {number} cookies in it.
"A treasure that is shared is twice as big," said {M}. | "Half for you, half for me," said {H}, and {F} agreed.""",
    """The Picnic | A {Weather} {Day} | {H} and {F} at the {Spot}

"Let us have a picnic," said {H} on {day}. | On {day} the children of Fernhill went to the {spot} for a picnic.
{H} brought {food}, and {F} brought {ffood}. | In {H}'s basket there was {food}. In {F}'s basket there was {ffood}.
They put a {color} blanket on the grass near the {spot}. | {H} spread out a {color} blanket, and they sat down on it.
{Pet}, the {pet} of {H}, came along, and so did {Fpet}, the {fpet} of {F}. | {Fpet}, the {fpet}, played in the grass, and {Pet}, the {pet}, watched.

They ate and talked and looked at the clouds. | "That cloud looks like {a_animal}," said {F}. "And that one looks like a {thing}," said {H}.
Then a drop fell on {H}'s nose. | Suddenly the sky grew dark.
"Is that rain?" asked {F}. And then it rained. | Plop, plop, plop. It began to rain.
They took everything and ran to a big tree. | They grabbed the blanket and held it over their heads.
{F} was sad. "Our picnic is over," {fhe} said. | "What a pity," said {F}. "And I was still hungry."

"No, it is not," said {H}. "We can eat here too." | But {H} began to laugh, and then {F} had to laugh too.
When the rain stopped, there was a rainbow over the {spot}. | After the rain came the sun, and a rainbow stood over Fernhill.
"Red, orange, yellow, green, blue, indigo, violet," they counted. "Seven colors!" | "I can see {color} in it," said {H}, "so it is my rainbow." "And I can see the rest," said {F}.""",
    """Hide and Seek | {H} Counts to {Count} | The Best Hiding Place

{H}, {F}, and {G} were playing hide and seek. | "Who wants to play hide and seek?" asked {H}. {F} and {G} did.
{H} closed {his} eyes and counted: "{counting}" | It was {H}'s turn to count. "{counting}" {he} counted, slowly.
{F} hid {place}. {G} hid {place2}. | Meanwhile {G} ran away and hid {place2}, and {F} hid {place}.
"I am coming!" called {H}. | "Ready or not, here I come!" called {H}.

{He} looked {place3}. Nobody was there. | First {H} looked {place3}, but it was empty.
Then {he} heard a laugh. It came from {F}. | Then somebody sneezed.
"I see you!" said {H}. {F} was {place}. | {H} looked {place} and found {F}.
"Now we must find {G}," said {H}. "Where can {ghe} be?" | But where was {G}? They looked and looked.
{Pet}, the {pet}, went straight to the right place. | "Ask {Pet}," said {F}. And {Pet}, the {pet}, showed them the way.

"There you are!" they called. {G} had been {place2} all the time. | {G} was {place2}, and had almost fallen asleep there.
"That was the best hiding place," said {H}. "You win, {G}." | So {G} won the game, and next time it was {F}'s turn to count.""",
    """The Lazy Helper | {M} Needs a Hand | {Number} Baskets

{M}, the {mjob}, had a lot of work and asked {H} and {F} for help. | "Who can help me on {day}?" asked {M}, the {mjob}. {H} and {F} raised their hands.
There were {number} baskets to carry to the {spot}. | {M} had {number} baskets, and all of them had to be brought to the {spot}.
{H} carried one basket after the other. | {H} began at once and did not talk much.
{F} sat down in the shade. "I will help later," {fhe} said. | {F} looked for the lightest basket, and it took {fhim} a long time.
? The sun climbed higher, and it grew hot. | ? {Pet} the {pet} ran back and forth beside {H}.

At noon, {H} was tired, but the work was done. | When the bell rang twelve, all the baskets stood at the {spot}.
{M} gave them {food} and {double} coins. | "Well done," said {M}, and put {double} coins on the table.
"How shall we share the coins?" asked {M}. | "How many coins for each of you?" asked {M}.
{F} turned red. "{H} did most of the work," {fhe} said. "I should not get half." | {F} looked at {fhis} feet. "{H} should get them all," {fhe} said.
"Half of {double} is {number}," said {H}. "Take your half, and tomorrow you carry my baskets." | "We share," said {H}. "Half of {double} is {number}. But next time we share the work too."

{F} did not forget it. The next day {fhe} came first and left last. | On {day2}, {F} carried twice as much as anyone.
"Now you are a real helper," said {M}. | And it felt good, {F} thought, much better than the shade.""",
    """The Kite | {H} and the Wind | A {Color} Kite

{H} had made a {color} kite. {Color} was {his} favorite color, and the kite was as tall as {he} was. | Out of paper and thin wood, {H} had built a {color} kite.
On {day} the wind was strong, so {he} took it up the hill. | "Today the wind is right," said {F} on {day}, and they climbed the hill.
The kite went up and up, until it was as small as a bird. | Up it went, higher than the trees, higher than the church.
Then the string broke! | But all at once the string snapped.
The kite flew away over the {spot}. | They could only watch as it sailed away over Fernhill.

"After it!" cried {F}, and they ran. | {H} was close to tears. "Come," said {F}, "it must land somewhere."
They asked {M}, the {mjob}. "A {color} kite? It went toward the {spot2}," {mhe} said. | On the road they met {M}, the {mjob}. "I saw something {color} fly to the {spot2}," {mhe} told them.
At the {spot2} they looked up, and they looked down. | So they ran to the {spot2} and searched.
And there it hung, high up in a tree. | {H} saw something {color} between the branches.
{F} was good at climbing and brought it down. | {M} came with a ladder and got it down for them.

There was a small hole in it, but nothing worse. | One corner was torn. "We can mend that," said {H}.
"Next time I will take a stronger string," said {H}. | With some paper and some glue it was soon as good as new.""",
    """{H} Learns Something New | {H} Asks {F} for a Lesson | Practice

{H} was good at {hobby}, but {he} wanted to learn {fhobby}. | "Can you teach me {fhobby}?" {H} asked {F}.
{F} did it every day and made it look easy. | {F} loved {fhobby} more than anything.
"I will show you," said {F}, "but you must practice." | "Of course," said {F}. "It is not hard, but it takes time."
The first try was terrible. | At first, nothing went right.
"I will never learn this," said {H}. | {H} was ready to give up.

"When I began, I was no better," said {F}. | {F} laughed kindly. "You should have seen my first try," {fhe} said.
So {H} practiced on Monday, Tuesday, and Wednesday. | {H} tried again the next day, and the next, and the next.
On Thursday it was a little better. | After a week, {he} could do it slowly.
On Friday it was good. | After a month, {he} could do it well.
"You see?" said {F}. "Step by step." | {F} clapped {fhis} hands. "Now you can teach me {hobby}," {fhe} said.

And then {H} showed {F} what {he} knew about {hobby}. | "It is your turn to be the student," said {H}, and they began with {hobby}.
Now both of them could do both things. | It took {F} just as long. But they had time.""",
    """A Letter in a Bottle | The Message | What the River Brought

{H} was sitting by the river with {Pet}, {his} {pet}, when a bottle came floating by. | One {weather} {day}, {H} saw a bottle in the river.
There was a piece of paper in it. | Something white was inside.
{H} pulled it out with a long branch and opened it. | {He} waded into the water and caught it.
It was a letter. "{letter}" it said. | On the paper, someone had written: "{letter}"

{H} ran to show it to {M}, the {mjob}. | "Look what I found," {he} said to {M}, the {mjob}.
"{Capital} is the capital of a country," said {M}. "Do you know which one?" | {M} read the letter twice. "That is a city far from here," {mhe} said. "Do you know the country?"
"{Country}," said {H}. | {H} thought of the map at school. "It must be {country}," {he} said.
"Right," said {M}. "So this bottle has come a long way." | "Very good," said {M}. "What a long journey for a bottle!"

That evening {H} wrote an answer. "My name is {H}," {he} wrote. "I live in Fernhill, and I have {a_pet} named {Pet}." | {H} sat down and wrote back about Fernhill, about {Pet}, and about {hobby}.
{He} put it in the bottle and threw it into the river. | The next morning {he} gave the bottle back to the river.
? Maybe somebody has found it by now. | ? {H} waited for {number} weeks. And then, one {day2}, another bottle came.""",
)

MORALS = (
    "It is good to be strong, but it is better to be clever.",
    "The moral: think first, and be afraid later.",
    "Since then the fox has been a little less sure of itself.",
    "The moral: do not believe everything that you hear.",
)

COINS_ENOUGH = (
    "{H} counted. {He} had {left} coins, and the {thing} cost {price2}, so {he} could buy it. {left} minus {price2} is {rest}. Now {he} had {rest} coins left.",
    "{H} had {left} coins. That was enough! {He} paid {price2} coins and kept {rest}.",
)
COINS_EXACT = ("{H} had {left} coins, just enough. Now {his} pocket was empty, but {he} was happy.",)
COINS_SHORT = (
    '{H} counted {his} {left} coins. It was not enough. "I will save my money," {he} said, "and come back."',
    '{H} had only {left} coins, and {price2} is more than {left}. So {he} could not buy it. "Another time," {he} thought.',
)

HOWTOS = (
    """How to make tea
To make tea, you need water, a cup, and tea leaves. | Tea is easy to make. | Here is how to make a good cup of tea.
1. Fill the kettle with cold water. | 1. Put fresh water into a kettle.
2. Heat the water until it boils. | 2. Put the kettle on the stove and wait until the water boils.
3. Put the tea leaves into a pot. | 3. Put one spoon of tea leaves into a warm pot.
4. Pour the hot water over the leaves. Be careful, because it is hot. | 4. Carefully pour the water into the pot.
5. Wait three minutes. | 5. Wait for three or four minutes.
6. Pour the tea into a cup. Add milk or honey if you like. | 6. Fill your cup and enjoy your tea.""",
    """How to plant a seed
You can grow a plant at home. | A seed needs soil, water, and light.
1. Fill a small pot with soil. | 1. Take a pot with a hole in the bottom and fill it with soil.
2. Make a hole with your finger. | 2. Press your finger into the soil to make a small hole.
3. Put the seed into the hole and cover it. | 3. Drop in one seed and cover it with a little soil.
4. Water it, but not too much. | 4. Give it some water, so that the soil is wet.
5. Put the pot near a window, where there is light. | 5. Find a warm, light place for the pot.
6. Wait. After one or two weeks you will see a green leaf. | 6. Be patient and keep the soil wet. Soon a leaf will appear.""",
    """How to wash your hands
Clean hands keep you healthy. | Wash your hands before you eat.
First, make your hands wet with warm water. | Begin with warm water on both hands.
Then take some soap. | Next, put soap on your hands.
Rub your hands together and count to twenty. | Rub them well, the front, the back, and between the fingers, for twenty seconds.
After that, wash off the soap with water. | Then hold them under the water until the soap is gone.
Last, dry your hands with a clean towel. | Finally, dry them well.""",
    """How to make bread
{M} of Fernhill makes bread like this. | This is how bread is made.
First, mix flour, water, salt, and yeast in a big bowl. | First, put flour, salt, yeast, and warm water into a bowl and mix them.
Second, press and fold the dough with your hands for ten minutes. | Second, work the dough with both hands until it is smooth.
Third, cover it and let it rest for an hour, until it is twice as big. | Third, let the dough rest in a warm place. It will grow.
Fourth, shape it into a loaf. | Fourth, make a round loaf out of it.
Fifth, bake it in a hot oven until it is brown. | Fifth, put it into the hot oven for about forty minutes.
Let the bread cool before you cut it. | Then comes the hardest part: wait until it is cool.""",
    """How to draw a cat
Take a pencil and a sheet of paper. | You need only a pencil and paper.
1. Draw a big circle for the body. | 1. Begin with a large circle. This is the body.
2. Draw a smaller circle on top for the head. | 2. Put a smaller circle above it. This is the head.
3. Add two triangles for the ears. | 3. On the head, draw two triangles. These are the ears.
4. Draw two eyes, a nose, and a mouth. | 4. Now draw the face: two eyes, a small nose, and a mouth.
5. Do not forget the whiskers, three on each side. | 5. Draw three long whiskers on the left and three on the right.
6. Last, add a long tail. Give your cat a name! | 6. Add a tail, and color your cat {color}, or any color you like.""",
    """How to cross the street
Streets can be dangerous, so follow these steps. | Always be careful near cars.
1. Stop at the edge of the street. | 1. Stop before you step onto the street.
2. Look left, look right, and look left again. | 2. Look to the left, then to the right, then to the left once more.
3. Listen for cars. | 3. Use your ears too. Can you hear a car?
4. If no car is coming, walk across. Do not run. | 4. When the street is empty, walk straight across.""",
    """How to take care of {a_pet}
{H} of Fernhill has {a_pet} named {Pet} and knows what to do. | This is what {H} does for {Pet}, the {pet}.
Give it fresh water every day. | A pet needs fresh water every morning.
Feed it at the same time each day. | Give it food, but not too much.
Keep its place clean. | Clean its place once a week or more.
Play with it, and leave it alone when it wants to rest. | Spend time with it every day, and be gentle.
If it is sick, go to an animal doctor. | When it does not want to eat, ask an animal doctor.""",
    """How to build a snowman
In winter, when there is enough snow, you can build a snowman. | You need snow, a carrot, and some pieces of coal.
1. Roll a big ball of snow. | 1. Make a small ball and roll it through the snow until it is big.
2. Roll a second ball, a little smaller, and put it on top. | 2. Make a second ball and lift it onto the first. A friend can help you.
3. The third ball is the head. It is the smallest. | 3. Put a small third ball on top for the head.
4. Use a carrot for the nose and coal for the eyes. | 4. Give it a carrot nose and two black eyes made of coal.
5. Give it a hat and a {color} scarf. | 5. Put a {color} scarf around its neck, so that it looks warm.
When the sun comes back, the snowman will melt, because snow turns into water when it is warm. | It will stay until the weather gets warm.""",
    """How to pack for a trip
Before you travel, make a list. | {H} is going on a trip to {capital}, the capital of {country}.
First, look at the weather. In cold places you need a coat. | First, find out if it will be hot or cold.
Then put your clothes on the bed, and take away half of them. | Then choose your clothes. You need fewer than you think.
Put the heavy things at the bottom of the bag and the light things on top. | Heavy things go down, and light things go on top.
Do not forget a toothbrush, a book, and something to eat. | Take a toothbrush, a map, and {food}.
Last, close the bag and lift it. If it is too heavy, start again. | At the end, check your list once more.""",
    """How to solve an equation
An equation like {eq} looks hard, but it is not. | Here is how to solve {eq}.
We want to know what x is. | The letter x stands for a number that we do not know yet.
First, take {eq_b} away from both sides. Then we have {eq_ax}. | Step 1: subtract {eq_b} on both sides. {eq_c} - {eq_b} = {eq_cb}, so {eq_ax}.
Now divide both sides by {eq_a}. | Step 2: divide both sides by {eq_a}. {eq_cb} / {eq_a} = {eq_x}.
So x is {eq_x}. | The answer is x = {eq_x}.
To be sure, we check it: {eq_a} times {eq_x} is {eq_cb}, and {eq_cb} plus {eq_b} is {eq_c}. That is right. | Check: {eq_a} * {eq_x} + {eq_b} = {eq_c}.""",
)

LETTERS = (
    """Dear {F},
how are you? I am fine. | thank you for your letter. I was so happy to read it. | today is {day}, and it is {weather} in Fernhill.
Yesterday I went to the {spot} with {Pet}, my {pet}. | On {day2} I was {hobby}, and it was wonderful. | I spent the whole day with {M}, the {mjob}.
On the way I saw {a_animal}. It was eating {eats}. | {M} told me something new: {planetfact}
My favorite color is still {color}, so I bought a {color} {thing}. | Look what I made for you: a picture in {color}, my favorite color.
? Next week I want to start {fhobby}, just like you. | ? Do you still like {fhobby}?
Please write soon. | I hope to see you on {day3}. | Come and visit me in {month}.
Your friend,
{H}""",
    """{day}, {month} {date}
Dear diary, today was a good day. | Dear diary, today I was {mood}. | Dear diary, a lot happened today.
In the morning I ate {food} and went to school. | It was {weather}, so I went outside with {Pet}. | I got up early because {Pet}, my {pet}, woke me.
At school we learned something: {schoolfact} | Our teacher told us this: {schoolfact}
In the afternoon I played with {F} near the {spot}. | After school, {F} and I went to the {spot}, and we found {a_junk}.
? {F} likes {ffood}, but I like {food} better. | ? I think {F} is the most {ftrait} person I know.
Now it is dark, and I am tired. | Tomorrow is {tomorrow}, and I will sleep long. | I will write more tomorrow.
Good night. | Good night, diary. | Good night. {H}""",
    """My favorite color is {color}. | My favorite color is {color}, and I can tell you why.
I have a {color} {thing} and a {color} coat. | When I see something {color}, I feel {mood}. | My {thing} is {color} too.
My friend {F} likes {fcolor} best. | {F} says that {fcolor} is better.
My name is {H}, and I am {age} years old. | I am {H} from Fernhill.
I have {a_pet} named {Pet}. | At home I have {a_pet}. Its name is {Pet}.
I like to eat {food}, and I love {hobby}. | What I like most is {hobby}. And {food}!
What is your favorite color? | And you? What do you like?""",
    """To everyone in Fernhill: | NEWS FROM FERNHILL | Notice at the {spot}
On {day}, {month} {date}, there will be a feast near the {spot}. | {M}, the {mjob}, invites you to a feast on {day}.
There will be {food} and {ffood} for all. | Please bring something to eat. {H} will bring {food}, and {F} will bring {ffood}.
{H} will show us {hobby}, and {F} will show us {fhobby}. | Everyone may show what they can do. {H} is good at {hobby}.
The weather will be {weather}. | If it rains, we will meet at the house of {M}.
? {Pet}, the {pet}, will also be there. | ? Please do not feed {Pet}, the {pet}.
Come at {hour} o'clock. | It begins at {hour} o'clock and ends when the food is gone.""",
)

MOODS = ("happy", "glad", "proud", "calm", "tired but happy", "brave", "cheerful")
PLACES = ("under the bed", "behind the barn", "in the hay", "on the roof of the shed", "behind the old oak", "in the kitchen", "under the bridge",
    "in an empty barrel", "beside the well", "in the apple tree", "under the stairs", "behind the mill", "in the boat", "next to the stove",
    "in a big basket", "behind the church", "among the tall flowers", "in the tool shed")  # fmt: skip
SPOTS = (
    "old mill",
    "well",
    "river",
    "market",
    "school",
    "stone bridge",
    "lake",
    "church",
    "big oak",
    "forest",
    "windmill",
    "harbor",
    "library",
    "hill",
)
JUNK = ("old shoe", "rusty key", "gray feather", "broken cup", "wooden spoon", "ball of wool", "round stone", "torn map", "tin box", "lost glove")
THINGS = ("scarf", "hat", "cup", "box", "book", "lamp", "ball", "boat", "drum", "pencil", "bag", "kite", "mitten", "whistle", "spinning top")
GOODS = ("bread", "cheese", "eggs", "flour", "honey", "butter", "apples", "carrots", "fish", "potatoes", "salt", "wool")
WEATHERS = ("sunny", "cold", "windy", "warm", "foggy", "rainy", "bright", "cloudy")
STORY_ANIMALS = ("rabbit", "hedgehog", "squirrel", "deer", "goat", "duck", "goose", "mouse", "sheep", "crow", "frog", "swan")
FABLE_ANIMALS = ("rabbit", "squirrel", "duck", "goose", "mouse", "crow", "frog", "hen")
PLANET_FACTS = {
    "Mercury": ("Mercury is the smallest planet and the nearest to the sun.", "Mercury has no moon."),
    "Venus": ("Venus is the hottest planet.", "Venus is almost as big as Earth, but its air is full of thick clouds."),
    "Mars": ("Mars is red because there is rust in its soil.", "Mars has two small moons."),
    "Jupiter": ("Jupiter is the biggest of all the planets.", "Jupiter has a great red storm that is bigger than Earth."),
    "Saturn": ("Saturn has wide rings made of ice and rock.", "Saturn is so light for its size that it would float on water."),
    "Uranus": ("Uranus lies on its side as it goes around the sun.", "Uranus is a cold planet and looks blue-green."),
    "Neptune": ("Neptune is the farthest planet from the sun.", "Neptune is cold, dark, and very windy."),
    "Earth": ("Earth has one moon.", "Earth is the only planet where we know that there is life."),
}
RIDDLES = (
    ("I have a face and two hands, but no legs. What am I?", "a clock"),
    ("I have teeth, but I cannot bite. What am I?", "a comb"),
    ("I fall in winter, and I am white and cold. What am I?", "snow"),
    ("I get wet while I dry you. What am I?", "a towel"),
    ("I have keys, but I open no door. What am I?", "a piano"),
    ("I have a neck, but no head. What am I?", "a bottle"),
    ("I go up and down, but I never move. What am I?", "the stairs"),
    ("I am full of holes, but I can hold water. What am I?", "a sponge"),
    ("I follow you all day, and in the dark I am gone. What am I?", "a shadow"),
    ("I have many pages, but I am not a tree. What am I?", "a book"),
    ("I have one eye, but I cannot see. What am I?", "a needle"),
    ("The more you take from me, the bigger I get. What am I?", "a hole"),
    ("I have a bed, but I never sleep. I run, but I have no legs. What am I?", "a river"),
    ("I give you milk, and I say moo. What am I?", "a cow"),
    ("I am yellow, and monkeys love me. What am I?", "a banana"),
    ("I shine at night, and sometimes I am round. What am I?", "the moon"),
)
